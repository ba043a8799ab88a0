//! The port for health and metrics is for this machine, and not for the pages that are open on it.

use multivac_testkit::http::Connection;
use multivac_testkit::port::free_port;
use multivac_testkit::process::Process;
use multivac_testkit::wait::until_ok;

use crate::test_worker::program;

#[tokio::test]
async fn metrics_are_not_served_under_a_name_that_the_worker_does_not_know() {
    let base = format!("127.0.0.1:{}", free_port());
    let servers = [
        "--redis-url",
        "redis://127.0.0.1:1",
        "--mongo-url",
        "mongodb://127.0.0.1:1",
        "--allowed-hosts",
        "metrics.example.org",
    ];
    let mut command = program(&servers);
    command.env("MULTIVAC_HEALTH_LISTEN", &base);
    let _worker = Process::start(&mut command);
    let base = format!("http://{base}");
    let status = async |path: &str, host: &str| {
        let mut connection = Connection::open(&base).await.map_err(|error| error.to_string())?;
        let request = format!("GET {path} HTTP/1.1\r\n{host}\r\n");
        connection.send(request).await.map_err(|error| error.to_string())?;
        connection.reply().await.map(|reply| reply.status).ok_or_else(|| "no reply".to_owned())
    };
    until_ok("the worker listens", async || status("/healthz", "Host: localhost\r\n").await).await;
    for path in ["/healthz", "/metrics", "/nothing"] {
        for host in ["Host: evil.test\r\n", "Host: 127.0.0.1.evil.test:5001\r\n", "Host:\r\n"] {
            assert_eq!(status(path, host).await, Ok(403), "{path} {host}");
        }
        let found = if path == "/nothing" { 404 } else { 200 };
        for host in
            ["Host: localhost:5001\r\n", "Host: 127.0.0.1\r\n", "Host: [::1]\r\n", "Host: Metrics.example.org\r\n"]
        {
            assert_eq!(status(path, host).await, Ok(found), "{path} {host}");
        }
    }
}
