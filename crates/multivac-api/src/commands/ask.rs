//! `ask`: a question to a server, and its answer.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use http::Method;
use http::header::{ACCEPT, HeaderValue, WARNING};
use multivac_core::answer::INSUFFICIENT_DATA;
use multivac_core::question::MAX_QUESTION_CHARS;
use serde::Deserialize;

use crate::client::retry::again;
use crate::client::{Client, ClientError, Server, printable};

/// There is an answer.
const ANSWERED: i32 = 0;
/// The data carry none.
const INSUFFICIENT: i32 = 1;
/// It could not be asked.
const FAILED: i32 = 2;

/// How long one try may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a server that is away or too busy is tried again: somebody waits for the answer.
const AWAY_TIMEOUT: Duration = Duration::from_secs(10);

/// How much evidence is shown on a terminal, and how much of each passage.
const SHOWN: usize = 3;
const SHOWN_CHARS: usize = 160;

/// What `ask` takes.
#[derive(Args, Clone)]
pub struct Ask {
    /// The question, in one word or several. Left out: the server's standing question.
    #[arg(value_name = "QUESTION")]
    pub question: Vec<String>,

    /// Whom.
    #[command(flatten)]
    pub server: Server,

    /// Write the server's JSON as it is, with confidence and evidence.
    #[arg(long)]
    pub json: bool,
}

/// What of the answer is shown.
#[derive(Deserialize)]
struct Answer {
    answer: Option<String>,
    confidence: f64,
    evidence: Vec<Evidence>,
    #[serde(default)]
    missing: Vec<String>,
    learned: u64,
}

#[derive(Deserialize)]
struct Evidence {
    id: String,
    passage: String,
    score: f64,
    stance: Option<String>,
}

impl Ask {
    /// Asks; the status to end with.
    pub async fn run(self) -> i32 {
        match self.ask().await {
            Ok(status) => status,
            Err(error) => {
                eprintln!("multivac-api: {error}");
                FAILED
            }
        }
    }

    async fn ask(self) -> Result<i32, ClientError> {
        let client = Client::new(&self.server.to, &self.server.access)?;
        let question = self.question.join(" ");
        if question.chars().count() > MAX_QUESTION_CHARS {
            return Err(ClientError::Usage(format!("expected a question of {MAX_QUESTION_CHARS} characters at most")));
        }
        let reply = again(AWAY_TIMEOUT, async || {
            let request = client.request(Method::GET, "/multivac").within(TIMEOUT);
            let request = request.header(ACCEPT, HeaderValue::from_static("application/json"));
            let asked = if self.question.is_empty() { request } else { request.query("question", &question) };
            client.json(asked).await
        });
        let reply = reply.await?;
        let answer: Answer =
            serde_json::from_slice(&reply.body).map_err(|_| client.other("its reply is no answer to a question"))?;
        for warning in reply.headers.get_all(WARNING) {
            // A code, who warns, and the text in quotation marks (RFC 7234, 5.5).
            let warning = String::from_utf8_lossy(warning.as_bytes()).into_owned();
            let text = warning.split('"').nth(1).unwrap_or(&warning);
            eprintln!("multivac-api: warning: {}", printable(text));
        }
        let mut out = io::stdout().lock();
        let is_terminal = out.is_terminal();
        // An error means that nobody reads it.
        let _ = match (self.json, is_terminal) {
            (true, _) => out.write_all(&reply.body).and_then(|()| writeln!(out)),
            (false, true) => show(&mut out, &answer),
            (false, false) => writeln!(out, "{}", answer.answer.as_deref().unwrap_or(INSUFFICIENT_DATA)),
        };
        Ok(if answer.answer.is_some() { ANSWERED } else { INSUFFICIENT })
    }
}

/// For a person: the sentence, and below it what it rests on.
fn show(out: &mut dyn Write, answer: &Answer) -> io::Result<()> {
    writeln!(out, "{}\n", printable(answer.answer.as_deref().unwrap_or(INSUFFICIENT_DATA)))?;
    let (confidence, learned) = (answer.confidence * 100.0, answer.learned);
    writeln!(out, "confidence {confidence:.0} %, of {learned} data")?;
    if !answer.missing.is_empty() {
        writeln!(out, "no datum holds: {}", printable(&answer.missing.join(", ")))?;
    }
    for Evidence { id, passage, score, stance } in answer.evidence.iter().take(SHOWN) {
        let stance = stance.as_ref().map_or_else(String::new, |stance| format!(", {}", printable(stance)));
        let passage: String = printable(passage).split_whitespace().collect::<Vec<_>>().join(" ");
        let mut shown: String = passage.chars().take(SHOWN_CHARS).collect();
        if shown.len() < passage.len() {
            shown.push('…');
        }
        writeln!(out, "\n  {shown}\n  ({:.0} %{stance}, {})", score * 100.0, printable(id))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_shows_holds_nothing_that_it_would_obey() {
        let evil = "Owls eat voles.\u{1b}]0;title\u{7}\u{9b}31m";
        let evidence =
            Evidence { id: "1".to_owned(), passage: format!("{evil}\n{}", "x ".repeat(200)), score: 0.5, stance: None };
        let answer = Answer {
            answer: Some(evil.to_owned()),
            confidence: 0.834,
            evidence: vec![evidence],
            missing: Vec::new(),
            learned: 2,
        };
        let mut out = Vec::new();
        show(&mut out, &answer).expect("memory");
        let shown = String::from_utf8(out).expect("text");
        assert!(shown.starts_with("Owls eat voles.") && shown.contains("confidence 83 %, of 2 data"), "{shown}");
        assert!(shown.contains('…') && !shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    }
}
