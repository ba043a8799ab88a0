//! nginx in front of the api's replicas.

use std::fmt::Write as _;

use tempfile::TempDir;

use crate::process::Service;
use crate::{environment, port};

/// nginx with the least configuration that a pair of replicas needs: one that does not answer is passed over, and what was
/// sent to it is sent to the other where that can do no harm. A POST that was sent, nginx never sends again by itself.
pub struct Nginx {
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub base: String,
    _service: Service,
    _directory: TempDir,
}

impl Nginx {
    /// Starts it in front of these base URLs; without nginx the test is skipped.
    pub fn start(bases: &[String]) -> Option<Self> {
        let nginx = environment::program("MULTIVAC_TEST_NGINX")?;
        let (port, directory) = (port::free_port(), tempfile::tempdir().unwrap());
        let mut servers = String::new();
        for base in bases {
            writeln!(servers, "server {} max_fails=0;", base.trim_start_matches("http://")).unwrap();
        }
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", directory.path().display()))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log info;
             events {{ worker_connections 512; }}
             http {{
                 access_log off;
                 {temporary}
                 upstream replicas {{ {servers} keepalive 16; }}
                 server {{
                     listen 127.0.0.1:{port};
                     location / {{
                         proxy_pass http://replicas;
                         proxy_http_version 1.1;
                         proxy_set_header Connection '';
                         proxy_set_header Host $http_host;
                         proxy_next_upstream error timeout http_503;
                     }}
                 }}
             }}",
            at = directory.path().display()
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let line = [nginx.into(), "-c".into(), file.into_os_string(), "-p".into(), directory.path().into()];
        let service = Service::start("nginx", line, directory.path().join("nginx.log"));
        Some(Self { base: format!("http://127.0.0.1:{port}"), _service: service, _directory: directory })
    }
}
