//! The names that a listener is known by: what the `Host` of a request is compared with.
//!
//! A web page can have the address of its own name changed to 127.0.0.1 while it is open (DNS rebinding). For the browser
//! whatever listens there is the page's own server then, so the page may read it and write to it. `Host` alone tells: it
//! holds the page's name. A listener on a loopback address relies on being reached by this machine's own users, so it
//! serves only those who know it by a name of its own.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The setting `--allowed-hosts`: names beside those that a listener has by itself. Empty is unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<Host>);

impl AllowedHosts {
    /// Reads names with commas between them.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let read = |name| Host::without_port(name).ok_or_else(|| EXPECTED.to_owned());
        names.map(read).collect::<Result<_, _>>().map(Self)
    }
}

const EXPECTED: &str = "expected names without ports, such as multivac.example.org, with commas between them";

/// The names that one listener is known by.
#[derive(Clone, Debug)]
pub struct KnownHosts {
    /// Whether it listens on a loopback address.
    is_loopback: bool,
    allowed: Vec<Host>,
}

impl KnownHosts {
    /// Of what listens at `address`, as the setting `listen` has it.
    #[must_use]
    pub fn new(listen: &str, address: SocketAddr, allowed: Option<&AllowedHosts>) -> Self {
        let mut allowed = allowed.cloned().unwrap_or_default().0;
        let is_loopback = address.ip().to_canonical().is_loopback();
        // Debian, for one, gives a machine's own name a loopback address.
        if let (true, Some(own)) = (is_loopback, Host::parse(listen)) {
            allowed.push(own);
        }
        Self { is_loopback, allowed }
    }

    /// Whether `host`, which may end in a port, names this listener. Where nothing is checked, everything does.
    #[must_use]
    pub fn knows(&self, host: &str) -> bool {
        if !self.is_loopback && self.allowed.is_empty() {
            return true;
        }
        match Host::parse(host) {
            None => false,
            Some(host) if self.allowed.contains(&host) => true,
            Some(Host::Name(name)) => name == "localhost",
            // An address cannot be rebound, and is what probes and scrapers use.
            Some(Host::Address(address)) => !self.is_loopback || address.is_loopback(),
        }
    }
}

/// A name in lower case, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Reads `name`, `name:port`, `[address]:port` and the like.
    fn parse(text: &str) -> Option<Self> {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (name, port) = match bracketed {
            Some((_, "")) => (text, ""),
            Some((address, rest)) => (&text[..address.len() + 2], rest.strip_prefix(':')?),
            None => text.split_once(':').unwrap_or((text, "")),
        };
        if port.bytes().all(|byte| byte.is_ascii_digit()) { Self::without_port(name) } else { None }
    }

    fn without_port(name: &str) -> Option<Self> {
        if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return address.parse::<Ipv6Addr>().ok().map(|address| Self::Address(address.to_canonical()));
        }
        if let Ok(address) = name.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical()));
        }
        // The dot of a name that is given in full.
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (!name.is_empty() && name.bytes().all(is_name)).then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn known(address: &str, allowed: &str) -> KnownHosts {
        let allowed = AllowedHosts::parse(allowed).unwrap();
        KnownHosts::new(address, address.parse().unwrap(), Some(&allowed))
    }

    const LOOPBACK: [&str; 8] = [
        "localhost",
        "localhost:5000",
        "LocalHost.:1",
        "127.0.0.1",
        "127.8.9.10:5000",
        "[::1]",
        "[::1]:5000",
        "[::ffff:127.0.0.1]:5000",
    ];

    const FOREIGN: [&str; 22] = [
        "evil.test",
        "evil.test:5000",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "notlocalhost",
        "x.localhost",
        "0.0.0.0:5000",
        "[::]:5000",
        "192.0.2.1",
        "[2001:db8::1]",
        "",
        ":5000",
        ".",
        "localhost:evil",
        "localhost@evil.test",
        "evil.test@localhost",
        "localhost/evil",
        "localhost evil.test",
        "localhost,evil.test",
        "[::1",
        "[localhost]",
        "::1]",
    ];

    #[test]
    fn a_loopback_listener_is_known_by_loopback_names_alone() {
        for address in ["127.0.0.1:5000", "127.0.0.2:80", "[::1]:5000", "[::ffff:127.0.0.1]:5000"] {
            let hosts = known(address, "");
            for host in LOOPBACK {
                assert!(hosts.knows(host), "{address} {host}");
            }
            for host in FOREIGN {
                assert!(!hosts.knows(host), "{address} {host}");
            }
        }
    }

    #[test]
    fn more_names_can_be_allowed() {
        let hosts = known("127.0.0.1:5000", " MultiVAC.example.org, 192.0.2.7,,[2001:db8::7]");
        for host in ["multivac.example.org", "multivac.EXAMPLE.org:443", "192.0.2.7:5000", "[2001:db8::7]:1"] {
            assert!(hosts.knows(host), "{host}");
        }
        for host in ["example.org", "x.multivac.example.org", "192.0.2.8", "evil.test"] {
            assert!(!hosts.knows(host), "{host}");
        }
        assert!(LOOPBACK.iter().all(|host| hosts.knows(host)));
    }

    #[test]
    fn other_listeners_are_known_by_every_name_until_names_are_allowed() {
        assert!(known("0.0.0.0:5000", "").knows("evil.test"));
        assert!(known("192.0.2.1:5000", " ,").knows("anything at all"));
        let hosts = known("0.0.0.0:5000", "localhost");
        for host in LOOPBACK.into_iter().chain(["10.0.0.1:5000", "192.0.2.1", "[2001:db8::1]:5000"]) {
            assert!(hosts.knows(host), "{host}");
        }
        for host in ["evil.test", "localhost.evil.test", "", "evil.test@localhost"] {
            assert!(!hosts.knows(host), "{host}");
        }
    }

    #[test]
    fn a_listener_is_known_by_the_name_that_its_setting_has() {
        let hosts = KnownHosts::new("susan:5000", "127.0.1.1:5000".parse().unwrap(), None);
        assert!(hosts.knows("susan:5000") && hosts.knows("127.0.1.1:5000") && !hosts.knows("calvin:5000"));
    }

    #[test]
    fn what_is_no_name_is_no_setting() {
        for wrong in ["multivac.example.org:443", "https://multivac.example.org", "*", "a b", "[::1]:5000", "a,b/c"] {
            assert!(AllowedHosts::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(AllowedHosts::parse(""), Ok(AllowedHosts::default()));
    }
}
