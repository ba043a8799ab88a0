//! Passwords: from a file or from netrc, never from the command line or a URL; and only where nobody on the way can read them.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::header::{AUTHORIZATION, HeaderValue};

use super::{Access, Call, ClientError, host, is_loopback};

/// How much of a file with passwords is read.
const MAX_BYTES: u64 = 1 << 20;

/// A user name and its password, which no message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the credentials of {}", self.user)
    }
}

impl Credentials {
    /// Those for a server, if there are any and they may be sent to it.
    ///
    /// # Errors
    /// [`ClientError::Usage`]: a name without a password, a file that cannot be read, or plain http to another machine.
    pub fn find(server: &Uri, access: &Access) -> Result<Option<Self>, ClientError> {
        let host = host(server);
        let may_send = server.scheme_str() == Some("https") || is_loopback(server) || access.password_over_http;
        let Some(user) = access.user.clone() else {
            // Nobody asked for it, so one that cannot be read keeps nobody from asking without a password.
            let found = netrc_file().and_then(|file| {
                look_up(&file, host, None).unwrap_or_else(|error| {
                    eprintln!("multivac-api: warning: {error}; going on without a password");
                    None
                })
            });
            if found.is_some() && !may_send {
                eprintln!("multivac-api: netrc's password is not sent over plain http; --password-over-http sends it");
            }
            return Ok(found.filter(|_| may_send));
        };
        if user.contains(':') || user.chars().any(char::is_control) {
            return Err(ClientError::Usage("--user: expected a name without a colon".to_owned()));
        }
        if !may_send {
            let refused = "--user: over plain http anybody on the way can read the password: use https, or consent with \
                           --password-over-http";
            return Err(ClientError::Usage(refused.to_owned()));
        }
        if let Some(file) = &access.password_file {
            let text = read(file)?;
            let password = text.lines().next().unwrap_or_default().to_owned();
            if password.is_empty() {
                let empty = format!("MULTIVAC_PASSWORD_FILE: {}: its first line is empty", file.display());
                return Err(ClientError::Usage(empty));
            }
            return Ok(Some(Self { user, password }));
        }
        let found = netrc_file().and_then(|file| look_up(&file, host, Some(&user)).transpose()).transpose()?;
        found.map(Some).ok_or_else(|| {
            let missing = format!("--user: no password of {user}: MULTIVAC_PASSWORD_FILE names a file that holds it, or netrc has it for {host}");
            ClientError::Usage(missing)
        })
    }

    /// The name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A request with them.
    pub fn add_to(&self, call: Call) -> Call {
        let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)));
        let mut basic = HeaderValue::from_str(&basic).expect("base64 is ASCII");
        basic.set_sensitive(true);
        call.header(AUTHORIZATION, basic)
    }
}

fn read(file: &Path) -> Result<String, ClientError> {
    let unreadable = |why: String| ClientError::Usage(format!("{}: {why}", file.display()));
    let mut text = String::new();
    let opened = File::open(file).map_err(|error| unreadable(error.to_string()))?;
    opened.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    warn_if_open(file);
    Ok(text)
}

fn warn_if_open(file: &Path) {
    let mode = std::fs::metadata(file).map(|file| std::os::unix::fs::PermissionsExt::mode(&file.permissions()));
    if mode.is_ok_and(|mode| mode & 0o004 != 0) {
        eprintln!("multivac-api: warning: everybody on this machine may read {}: chmod o= on it", file.display());
    }
}

/// The file that NETRC names, or ~/.netrc if it is there.
fn netrc_file() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    match set("NETRC") {
        Some(file) => Some(file.into()),
        None => Some(PathBuf::from(set("HOME")?).join(".netrc")).filter(|file| file.exists()),
    }
}

/// What the file has for a host; of this user, where one is named.
fn look_up(file: &Path, host: &str, user: Option<&str>) -> Result<Option<Credentials>, ClientError> {
    let text = read(file)?;
    let broken = |why| ClientError::Usage(format!("{}: {why}", file.display()));
    Ok(entries(&text).map_err(broken)?.into_iter().find_map(|entry| {
        let is_host = entry.machine.as_deref().is_none_or(|machine| machine.eq_ignore_ascii_case(host));
        let is_user = user.is_none_or(|user| entry.login.as_deref().is_none_or(|login| login == user));
        let user = user.map(str::to_owned).or(entry.login)?;
        (is_host && is_user).then_some(Credentials { user, password: entry.password? })
    }))
}

/// `machine` is `None` for `default`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    machine: Option<String>,
    login: Option<String>,
    password: Option<String>,
}

/// The entries of a netrc file, in their order: `machine`, `default`, `login`, `password`, and what is passed over: `account`,
/// `macdef` up to an empty line, comments.
fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    let (mut wanted, mut in_macro) = (None, false);
    for (number, line) in (1..).zip(text.lines()) {
        if in_macro {
            in_macro = !line.trim().is_empty();
            continue;
        }
        for token in tokens(line).ok_or_else(|| format!("line {number}: a quotation has no end"))? {
            match wanted.take() {
                Some("machine") => entries.push(Entry { machine: Some(token), ..Entry::default() }),
                Some("login") => entries.last_mut().map_or((), |entry| entry.login = Some(token)),
                Some("password") => entries.last_mut().map_or((), |entry| entry.password = Some(token)),
                Some(_) => {}
                None => match token.as_str() {
                    "default" => entries.push(Entry::default()),
                    "macdef" => in_macro = true,
                    "machine" => wanted = Some("machine"),
                    "login" => wanted = Some("login"),
                    "password" => wanted = Some("password"),
                    "account" => wanted = Some("account"),
                    _ if in_macro => {}
                    // Not the word itself: it may be a part of a password.
                    _ => {
                        return Err(format!(
                            "line {number}: expected machine, default, login, password, account or macdef"
                        ));
                    }
                },
            }
        }
    }
    Ok(entries)
}

/// The words of a line; one may be quoted, with backslashes before what would end it.
fn tokens(line: &str) -> Option<Vec<String>> {
    let mut tokens = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(&first) = chars.peek() else { return Some(tokens) };
        if first == '#' && tokens.is_empty() {
            return Some(tokens);
        }
        let mut token = String::new();
        if first == '"' {
            chars.next();
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => token.push(chars.next()?),
                    other => token.push(other),
                }
            }
        } else {
            while let Some(next) = chars.next_if(|c| !c.is_whitespace()) {
                token.push(next);
            }
        }
        tokens.push(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(machine: Option<&str>, login: &str, password: &str) -> Entry {
        let own = |text: &str| Some(text.to_owned());
        Entry { machine: machine.map(str::to_owned), login: own(login), password: own(password) }
    }

    #[test]
    fn netrc_is_read_as_other_programs_read_it() {
        let text = "# mine\nmachine a.example login susan password s3cret#1\n\
                    machine b.example\n\tlogin joe account x password \"with \\\"space \\\\\"\n\
                    macdef init\nmachine c login d password e\n\n\
                    default login anonymous password guest\n";
        let expected = [
            entry(Some("a.example"), "susan", "s3cret#1"),
            entry(Some("b.example"), "joe", "with \"space \\"),
            entry(None, "anonymous", "guest"),
        ];
        assert_eq!(entries(text).expect("it can be read"), expected);
    }

    #[test]
    fn what_is_no_netrc_is_told_by_its_line_alone() {
        for text in ["machine a login b passwrod s3cret", "machine a password \"s3cret", "\ns3cret"] {
            let why = entries(text).expect_err("it is none");
            assert!(why.contains("line ") && !why.contains("s3cret"), "{why}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_in_a_netrc_panics(text in "(machine|login|password|default|macdef|[ \n\"\\\\#a]){0,40}") {
            let _ = entries(&text);
        }
    }
}
