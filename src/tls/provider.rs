//! The cryptography: ring's, and of that what servers and clients of the last ten years have in common. What is left out is
//! not only not offered, it is not in the program: ChaCha20 and Poly1305 alone would be a fiftieth of it.

use std::sync::{Arc, LazyLock};

use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::crypto::ring::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256,
    TLS13_AES_256_GCM_SHA384,
};
use rustls::crypto::ring::kx_group::{SECP256R1, SECP384R1, X25519};
use rustls::crypto::ring::sign;
use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, SupportedKxGroup, WebPkiSupportedAlgorithms,
};
use rustls::pki_types::{PrivateKeyDer, SignatureVerificationAlgorithm};
use rustls::sign::SigningKey;
use rustls::{SignatureScheme, SupportedCipherSuite};
use webpki::ring as signed;

/// Each has forward secrecy and authenticates what it encrypts.
const SUITES: [SupportedCipherSuite; 6] = [
    TLS13_AES_256_GCM_SHA384,
    TLS13_AES_128_GCM_SHA256,
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// A server of PostgreSQL before 18 knows P-256 alone, unless its `ssl_ecdh_curve` says otherwise.
const GROUPS: [&dyn SupportedKxGroup; 3] = [X25519, SECP256R1, SECP384R1];

/// All of ring's, as certificates may be signed by anybody.
const SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    signed::ECDSA_P256_SHA256,
    signed::ECDSA_P256_SHA384,
    signed::ECDSA_P384_SHA256,
    signed::ECDSA_P384_SHA384,
    signed::ED25519,
    signed::RSA_PKCS1_2048_8192_SHA256,
    signed::RSA_PKCS1_2048_8192_SHA384,
    signed::RSA_PKCS1_2048_8192_SHA512,
    signed::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    signed::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    signed::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    signed::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    signed::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    signed::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// In a handshake. TLS 1.2 says the hash only, so either curve can be meant (RFC 8446, section 4.2.3).
const SCHEMES: &[(SignatureScheme, &[&dyn SignatureVerificationAlgorithm])] = &[
    (SignatureScheme::ECDSA_NISTP384_SHA384, &[signed::ECDSA_P384_SHA384, signed::ECDSA_P256_SHA384]),
    (SignatureScheme::ECDSA_NISTP256_SHA256, &[signed::ECDSA_P256_SHA256, signed::ECDSA_P384_SHA256]),
    (SignatureScheme::ED25519, &[signed::ED25519]),
    (SignatureScheme::RSA_PSS_SHA512, &[signed::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
    (SignatureScheme::RSA_PSS_SHA384, &[signed::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
    (SignatureScheme::RSA_PSS_SHA256, &[signed::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
    (SignatureScheme::RSA_PKCS1_SHA512, &[signed::RSA_PKCS1_2048_8192_SHA512]),
    (SignatureScheme::RSA_PKCS1_SHA384, &[signed::RSA_PKCS1_2048_8192_SHA384]),
    (SignatureScheme::RSA_PKCS1_SHA256, &[signed::RSA_PKCS1_2048_8192_SHA256]),
];

/// What every connection of the agent is encrypted with.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: SUITES.to_vec(),
            kx_groups: GROUPS.to_vec(),
            signature_verification_algorithms: WebPkiSupportedAlgorithms {
                all: SIGNATURES,
                mapping: SCHEMES,
            },
            secure_random: &System,
            key_provider: &System,
        })
    });
    Arc::clone(&PROVIDER)
}

/// This system's random numbers, and ring's keys.
#[derive(Debug)]
struct System;

impl SecureRandom for System {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        SystemRandom::new().fill(buffer).map_err(|_| GetRandomFailed)
    }
}

impl KeyProvider for System {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        sign::any_supported_type(&key)
    }
}
