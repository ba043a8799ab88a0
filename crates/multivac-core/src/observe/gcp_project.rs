//! Which project of Google Cloud this process runs in: <https://cloud.google.com/compute/docs/metadata/querying-metadata>.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

/// How long the metadata server may take, from its name to its reply. It is on the same machine.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Where it is, unless `GCE_METADATA_HOST` names another place, as Google's own libraries have it.
const HOST: &str = "metadata.google.internal";

/// Reads a project's id.
///
/// # Errors
/// What was expected.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    let is_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.');
    if (1..=63).contains(&text.len()) && text.chars().all(is_id) {
        Ok(text.to_owned())
    } else {
        Err("expected the id of a project of Google Cloud, such as my-project-1".to_owned())
    }
}

/// What `GOOGLE_CLOUD_PROJECT` names, as Google's own libraries have it, or what the metadata server says; `None` where there is
/// neither.
pub(super) fn find() -> Option<String> {
    let named = std::env::var("GOOGLE_CLOUD_PROJECT").ok().and_then(|project| parse(&project).ok());
    named.or_else(ask)
}

fn ask() -> Option<String> {
    let host = std::env::var("GCE_METADATA_HOST").ok().filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| HOST.to_owned());
    let (sender, reply) = mpsc::channel();
    // Looking a name up cannot be given a limit, so it has a thread of its own, which ends when it ends.
    std::thread::spawn(move || sender.send(ask_at(&host)));
    reply.recv_timeout(TIMEOUT).ok().flatten()
}

fn ask_at(host: &str) -> Option<String> {
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let address = address.to_socket_addrs().ok()?.next()?;
    let mut connection = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    connection.set_read_timeout(Some(TIMEOUT)).ok()?;
    connection.set_write_timeout(Some(TIMEOUT)).ok()?;
    let request = format!(
        "GET /computeMetadata/v1/project/project-id HTTP/1.1\r\nHost: {host}\r\nMetadata-Flavor: Google\r\n\
         Connection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).ok()?;
    let mut reply = String::new();
    connection.take(8 << 10).read_to_string(&mut reply).ok()?;
    project_in(&reply)
}

/// The project in a reply of the metadata server, which names itself: another server under its name may say anything.
fn project_in(reply: &str) -> Option<String> {
    let (head, body) = reply.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let is_ok = lines.next()?.split(' ').nth(1) == Some("200");
    let is_google = lines.any(|line| line.eq_ignore_ascii_case("metadata-flavor: google"));
    if is_ok && is_google { parse(body.trim()).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_is_read_and_nothing_else_is_taken_for_one() {
        let reply = |head: &str, body: &str| format!("{head}\r\nContent-Type: application/text\r\n\r\n{body}");
        let google = "HTTP/1.1 200 OK\r\nMetadata-Flavor: Google";
        assert_eq!(project_in(&reply(google, "a-project-1")), Some("a-project-1".to_owned()));
        assert_eq!(project_in(&reply(google, "example.com:a-project\n")), Some("example.com:a-project".to_owned()));
        assert_eq!(project_in(&reply(google, "")), None);
        assert_eq!(project_in(&reply(google, "<html>")), None);
        assert_eq!(project_in(&reply("HTTP/1.1 200 OK", "a-project-1")), None);
        assert_eq!(project_in(&reply("HTTP/1.1 404 Not Found\r\nMetadata-Flavor: Google", "a-project")), None);
        assert_eq!(project_in("garbage"), None);
    }
}
