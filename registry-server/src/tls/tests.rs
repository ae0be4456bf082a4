use rcgen::{CertifiedKey as Generated, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;

/// Writes a new certificate and its key, and returns what a client would see of it.
fn write_pair(folder: &TempDir) -> (PathBuf, PathBuf, Vec<u8>) {
    let Generated { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert_file, key_file) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    fs::write(&cert_file, cert.pem()).unwrap();
    fs::write(&key_file, signing_key.serialize_pem()).unwrap();
    (cert_file, key_file, cert.der().to_vec())
}

fn current(certificate: &Certificate) -> Vec<u8> {
    certificate.current.load().cert[0].to_vec()
}

#[test]
fn a_new_certificate_replaces_the_old_and_a_broken_one_does_not() {
    let folder = TempDir::new().unwrap();
    let (cert, key, first) = write_pair(&folder);
    let certificate = Certificate::load(&cert, &key).unwrap();
    assert_eq!(
        certificate.server_config().unwrap().alpn_protocols,
        [&b"h2"[..], b"http/1.1"]
    );
    assert_eq!(current(&certificate), first);
    let (_, _, second) = write_pair(&folder);
    certificate.reload();
    assert_eq!(current(&certificate), second);
    fs::write(&cert, "no certificate").unwrap();
    certificate.reload();
    assert_eq!(current(&certificate), second);
}

#[test]
fn what_cannot_be_used_is_named() {
    let folder = TempDir::new().unwrap();
    let (cert, key, _) = write_pair(&folder);
    let missing = folder.path().join("missing.pem");
    let error = Certificate::load(&missing, &key).unwrap_err();
    assert!(error.to_string().contains("missing.pem"), "{error}");
    let other = TempDir::new().unwrap();
    let (_, other_key, _) = write_pair(&other);
    let error = Certificate::load(&cert, &other_key).unwrap_err();
    assert!(matches!(error, TlsError::Unfit(_)), "{error}");
    let error = Certificate::load(&key, &key).unwrap_err();
    assert!(matches!(error, TlsError::Empty { .. }), "{error}");
}
