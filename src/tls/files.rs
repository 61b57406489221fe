//! Certificates, keys and revocation lists from their PEM files. Each error is one line that names the file.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::provider::provider;

/// The authorities that a whole system trusts are a fifth of it.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// All certificates of the file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    all(path, "certificate")
}

/// All revocation lists of the file, at least one.
pub fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    all(path, "certificate revocation list")
}

/// The first key of the file. An encrypted one is none: nobody is there to type the password.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            format!("{}: no key in it (PEM, without a password)", path.display())
        }
        error => format!("{}: {error}", path.display()),
    })
}

/// A certificate with those between it and its authority, and its key.
pub fn identity(certificate: &Path, key_path: &Path) -> Result<Arc<CertifiedKey>, String> {
    pair(certificates(certificate)?, key(key_path)?, certificate, key_path)
}

/// That of `--tls-cert` and `--tls-key`, which others may not read. The error begins with the option that it is about.
pub fn own_identity(certificate: &Path, key_path: &Path) -> Result<Arc<CertifiedKey>, String> {
    let of = |option: &'static str| move |why: String| format!("{option}: {why}");
    refuse_shared_key(key_path).map_err(of("tls-key"))?;
    let chain = certificates(certificate).map_err(of("tls-cert"))?;
    let key = key(key_path).map_err(of("tls-key"))?;
    pair(chain, key, certificate, key_path).map_err(of("tls-key"))
}

fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    certificate: &Path,
    key_path: &Path,
) -> Result<Arc<CertifiedKey>, String> {
    let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            format!(
                "the key in {} is not that of the certificate in {}",
                key_path.display(),
                certificate.display()
            )
        }
        error => format!("{} with {}: {error}", certificate.display(), key_path.display()),
    })?;
    Ok(Arc::new(pair))
}

/// What tells one content of a file from another: a reload finds the same names.
pub fn digest(path: Option<&Path>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&path.and_then(|path| read(path).ok()).unwrap_or_default());
    hasher.finish()
}

/// Refuses a key that others may read, by libpq's rule (fe-secure-openssl.c, `initialize_SSL`): one of root's may be
/// readable for a group, any other for its owner alone. A file that cannot be looked at is none of this function's business.
pub fn refuse_shared_key(path: &Path) -> Result<(), String> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    if !metadata.is_file() {
        return Err(format!("{}: not a regular file", path.display()));
    }
    let (forbidden, mode) = if metadata.uid() == 0 { (0o037, "640") } else { (0o077, "600") };
    match metadata.permissions().mode() & forbidden {
        0 => Ok(()),
        _ => Err(format!("{0}: others may read this key: chmod {mode} {0}", path.display())),
    }
}

/// The authorities in the file, at least one.
pub fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

fn all<T: PemObject>(path: &Path, what: &str) -> Result<Vec<T>, String> {
    let bytes = read(path)?;
    let items: Result<Vec<T>, _> = T::pem_slice_iter(&bytes).collect();
    match items {
        Ok(items) if items.is_empty() => Err(format!("{}: no {what} in it (PEM)", path.display())),
        Ok(items) => Ok(items),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// The bytes of a file that is no longer than what such a file may be.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let result = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    let result = result.and_then(|_| match bytes.len() as u64 > MAX_FILE_BYTES {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB")),
        false => Ok(()),
    });
    result
        .map_err(|error| format!("cannot read {}: {}", path.display(), crate::config::cause_of_io(&error)))?;
    Ok(bytes)
}
