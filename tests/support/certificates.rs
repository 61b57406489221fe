//! Certificates of every kind, made by the real openssl: an authority of a test's own, and what it issues.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::folder::Folder;
use super::postgresql::run;

/// An authority and the folder of all it has issued.
pub struct Authority {
    folder: Folder,
    name: String,
}

/// A certificate and its key, as files of their own.
#[derive(Clone, Debug)]
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What a certificate says.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    /// The common name.
    pub name: &'a str,
    /// As in openssl's `subjectAltName`, `DNS:localhost,IP:127.0.0.1`; empty: no such extension.
    pub alternative_names: &'a str,
    /// From when to when, as `openssl ca` has it.
    pub validity: (&'a str, &'a str),
}

/// Long enough for every test.
pub const VALID: (&str, &str) = ("20200101000000Z", "20490101000000Z");
pub const EXPIRED: (&str, &str) = ("20200101000000Z", "20200201000000Z");
pub const NOT_YET: (&str, &str) = ("20480101000000Z", "20490101000000Z");

impl<'a> Wish<'a> {
    /// For this machine by name and numbers.
    pub fn local(name: &'a str) -> Wish<'a> {
        Wish { name, alternative_names: "DNS:localhost,IP:127.0.0.1,IP:::1", validity: VALID }
    }
}

impl Authority {
    /// One of this common name, which issues itself.
    pub fn new(name: &str) -> Authority {
        Authority::of(name, VALID, "authority")
    }

    /// One that is valid from when to when, with these extensions of openssl's configuration: `authority`, or `leaf` for
    /// one that must not issue any other.
    pub fn of(name: &str, validity: (&str, &str), extensions: &str) -> Authority {
        let authority = Authority::with_key(name);
        authority.issue_itself(validity, extensions);
        authority
    }

    /// One whose certificate this one issues.
    pub fn intermediate(&self, name: &str) -> Authority {
        let authority = Authority::with_key(name);
        fs::copy(authority.path("ca.csr"), self.path("between.csr")).expect("copy the request");
        let mut openssl = self.signing(VALID, "authority");
        run(openssl.args(["-in", "between.csr", "-out", "between.crt"]));
        fs::copy(self.path("between.crt"), authority.path("ca.crt")).expect("copy the certificate");
        authority
    }

    /// Its certificate is another one from now on, with the same name and key.
    pub fn issue_itself(&self, validity: (&str, &str), extensions: &str) {
        let mut openssl = self.signing(validity, extensions);
        run(openssl.args(["-selfsign", "-in", "ca.csr", "-out", "ca.crt"]));
    }

    fn with_key(name: &str) -> Authority {
        let folder = Folder::new("certificates");
        let authority = Authority { folder, name: name.to_owned() };
        for (file, content) in [("index.txt", ""), ("serial", "1000\n"), ("crlnumber", "01\n")] {
            fs::write(authority.path(file), content).expect("write the authority's files");
        }
        authority.write_config("");
        let mut openssl = authority.openssl();
        openssl.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-config", "ca.cnf", "-subj", &format!("/CN={name}")]);
        run(openssl.args(["-keyout", "ca.key", "-out", "ca.csr"]));
        authority
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// Its own key.
    pub fn key(&self) -> PathBuf {
        self.path("ca.key")
    }

    /// A certificate for this machine under these names.
    pub fn issue(&self, wish: Wish) -> Issued {
        self.issue_with(wish, &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
    }

    /// The same with a key made by these options of `openssl req`.
    pub fn issue_with(&self, wish: Wish, key_options: &[&str]) -> Issued {
        self.write_config(wish.alternative_names);
        let stem = format!("{}-{}", wish.name.replace(['/', '*', ' '], "_"), self.count());
        let (certificate, key, request) =
            (format!("{stem}.crt"), format!("{stem}.key"), format!("{stem}.csr"));
        let mut openssl = self.openssl();
        openssl.args(["req", "-nodes"]).args(key_options);
        openssl.args(["-config", "ca.cnf", "-subj", &format!("/CN={}", wish.name)]);
        openssl.args(["-keyout", &key, "-out", &request]);
        run(&mut openssl);
        let mut openssl = self.signing(wish.validity, "leaf");
        run(openssl.args(["-in", &request, "-out", &certificate]));
        Issued { certificate: self.path(&certificate), key: self.path(&key) }
    }

    /// Revokes what it has issued.
    pub fn revoke(&self, issued: &Issued) {
        let mut openssl = self.openssl();
        run(openssl.args(["ca", "-config", "ca.cnf", "-revoke"]).arg(&issued.certificate));
    }

    /// The list of what it has revoked so far, made anew.
    pub fn revocation_list(&self) -> PathBuf {
        let mut openssl = self.openssl();
        run(openssl.args(["ca", "-config", "ca.cnf", "-gencrl", "-crldays", "30", "-out", "crl.pem"]));
        self.path("crl.pem")
    }

    fn signing(&self, (from, until): (&str, &str), extensions: &str) -> Command {
        let mut openssl = self.openssl();
        openssl.args(["ca", "-batch", "-config", "ca.cnf", "-notext", "-extensions", extensions]);
        openssl.args(["-startdate", from, "-enddate", until]);
        openssl
    }

    fn openssl(&self) -> Command {
        let mut openssl = Command::new("openssl");
        openssl.current_dir(self.folder.path());
        openssl
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::new(self.folder.path()).join(file)
    }

    fn count(&self) -> usize {
        fs::read_dir(self.folder.path()).expect("the authority's folder").count()
    }

    fn write_config(&self, alternative_names: &str) {
        let names = match alternative_names {
            "" => String::new(),
            names => format!("subjectAltName = {names}\n"),
        };
        let config = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\nnew_certs_dir = .\nserial = serial\n\
             crlnumber = crlnumber\ncertificate = ca.crt\nprivate_key = ca.key\ndefault_md = sha256\n\
             policy = any\nunique_subject = no\ncopy_extensions = none\ncrl_extensions = list\n\
             [any]\ncommonName = optional\n\
             [req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = {}\n\
             [authority]\nbasicConstraints = critical,CA:true\nkeyUsage = critical,keyCertSign,cRLSign\n\
             subjectKeyIdentifier = hash\n\
             [list]\nauthorityKeyIdentifier = keyid:always\n\
             [leaf]\nbasicConstraints = CA:false\nsubjectKeyIdentifier = hash\n\
             authorityKeyIdentifier = keyid\n{names}",
            self.name
        );
        fs::write(self.path("ca.cnf"), config).expect("write openssl's configuration");
    }
}
