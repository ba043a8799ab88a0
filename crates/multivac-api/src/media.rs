//! Media types, their parameters, and lists of values, as RFC 9110 writes them (5.6 and 8.3).

/// A media type: `type/subtype; name=value`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MediaType {
    /// `type/subtype` in lower case: both compare without regard to case.
    pub(crate) essence: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Reads a media type. What is no parameter is passed over: clients send such things, and mean nothing by them.
    pub(crate) fn parse(value: &str) -> Self {
        let (essence, rest) = value.split_once(';').unwrap_or((value, ""));
        Self { essence: essence.trim().to_ascii_lowercase(), parameters: parameters(rest) }
    }

    /// The values of a parameter, whose name is given in lower case; more than one if it is repeated.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.parameters.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Whether its text is UTF-8 by its own word, or it says nothing about that. Single quotes are a part of the value for
    /// RFC 9110, but clients send `charset='utf-8'` and mean UTF-8. Nothing is risked: the text is checked.
    pub(crate) fn is_utf8(&self) -> bool {
        self.values("charset").all(is_utf8)
    }
}

/// Whether a charset is UTF-8, or a part of it.
pub(crate) fn is_utf8(charset: &str) -> bool {
    let charset = charset.trim_matches('\'');
    ["utf-8", "utf8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name))
}

/// `name=value` pairs between semicolons: names in lower case, quoted values without their quotes and escapes.
pub(crate) fn parameters(text: &str) -> Vec<(String, String)> {
    let pairs = split(text, ';').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_ascii_lowercase(), unquoted(value.trim()))).collect()
}

/// The members of a list: those between commas, without the empty ones.
pub(crate) fn list(text: &str) -> impl Iterator<Item = &str> {
    split(text, ',').map(str::trim).filter(|member| !member.is_empty())
}

/// Splits a text, but not within its quoted strings.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |char| {
        if escaped {
            escaped = false;
        } else if quoted && char == '\\' {
            escaped = true;
        } else if char == '"' {
            quoted = !quoted;
        } else {
            return char == separator && !quoted;
        }
        false
    })
}

/// A token as it is, a quoted string as what it stands for.
fn unquoted(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"') else { return value.to_owned() };
    let mut text = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => break,
            '\\' => text.extend(chars.next()),
            _ => text.push(char),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_read_without_regard_to_case_and_space() {
        for (value, essence) in [
            ("text/plain", "text/plain"),
            ("Application/JSON", "application/json"),
            (" TEXT/Plain ; Charset=UTF-8", "text/plain"),
            ("", ""),
        ] {
            assert_eq!(MediaType::parse(value).essence, essence, "{value}");
        }
    }

    #[test]
    fn a_charset_is_utf8_however_it_is_written() {
        for (parameters, is_utf8) in [
            ("", true),
            ("charset=utf-8", true),
            ("CHARSET=UTF-8", true),
            ("charset=\"UTF-8\"", true),
            (r#"charset="utf\-8""#, true),
            ("charset='utf-8'", true),
            ("charset=us-ascii; format=flowed", true),
            ("x=\"a;charset=latin1\"; charset=utf-8", true),
            ("charset", true),
            ("charset=", false),
            ("charset=latin1", false),
            ("charset=utf-8; charset=latin1", false),
            ("charset=\"utf-16\"", false),
        ] {
            let media = MediaType::parse(&format!("text/plain; {parameters}"));
            assert_eq!(media.is_utf8(), is_utf8, "{parameters}");
        }
    }

    #[test]
    fn a_list_is_split_at_its_commas() {
        assert_eq!(list("a, b;x=\"1,\\\",2\" ,, c").collect::<Vec<_>>(), ["a", "b;x=\"1,\\\",2\"", "c"]);
    }
}
