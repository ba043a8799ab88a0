//! Certificates for servers on 127.0.0.1.

use std::path::Path;
use std::process::Command;

/// Makes a certificate authority and a certificate of it for 127.0.0.1 and localhost, with openssl: `NAME-ca.pem`,
/// `NAME.crt`, `NAME.key`, and `NAME.pem` with the last two in one.
pub fn make_certificate(directory: &Path, name: &str) {
    let script = format!(
        "set -e
         openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name}-authority -keyout {name}-ca.key \
             -out {name}-ca.pem -addext basicConstraints=critical,CA:TRUE
         openssl req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr
         printf 'subjectAltName=IP:127.0.0.1,DNS:localhost' >{name}.names
         openssl x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca.key -CAcreateserial -days 2 \
             -extfile {name}.names -out {name}.crt
         cat {name}.key {name}.crt >{name}.pem"
    );
    let made = Command::new("sh").args(["-c", &script]).current_dir(directory).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
