//! Text to passages: a passage is a paragraph, unless that is very long.

use super::{normalise, sentences};

/// Where a paragraph is longer than this, in bytes, it is parted between sentences: a passage is to be about one thing.
const LONG: usize = 2_000;

/// A line shorter than this, in bytes, without an end mark, is a heading: it belongs to what follows it.
const HEADING: usize = 80;

/// The passages of a text, in order; at least one.
#[must_use]
pub fn passages(text: &str) -> Vec<String> {
    let text = normalise(text);
    let mut passages = Vec::new();
    let mut heading = String::new();
    for paragraph in paragraphs(&text) {
        if paragraph.len() < HEADING
            && !paragraph.contains('\n')
            && !paragraph.ends_with(['.', '!', '?', '"', '”', '。'])
        {
            heading.push_str(paragraph);
            heading.push('\n');
            if heading.len() < 2 * HEADING {
                continue;
            }
            passages.push(std::mem::take(&mut heading).trim_end().to_owned());
            continue;
        }
        let whole = std::mem::take(&mut heading) + paragraph;
        part(&whole, &mut passages);
    }
    if !heading.is_empty() {
        passages.push(heading.trim_end().to_owned());
    }
    if passages.is_empty() {
        // Nothing but control characters: it can be stored and looked up, though hardly found by a word.
        passages.push(text);
    }
    passages
}

/// What stands between blank lines.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len();
        let mut at = 0;
        for line in rest.split_inclusive('\n') {
            if line.trim().is_empty() {
                end = at;
                break;
            }
            at += line.len();
        }
        let (paragraph, after) = rest.split_at(end);
        rest = after;
        Some(paragraph.trim_end())
    })
}

/// Cuts a long paragraph between sentences.
fn part(paragraph: &str, passages: &mut Vec<String>) {
    if paragraph.len() <= LONG {
        passages.push(paragraph.to_owned());
        return;
    }
    let mut start = 0;
    let mut end = 0;
    for sentence in sentences(paragraph) {
        if sentence.end - start > LONG && end > start {
            passages.push(paragraph[start..end].trim().to_owned());
            start = sentence.start;
        }
        end = sentence.end;
    }
    passages.push(paragraph[start..].trim().to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_line_parts_passages() {
        let text = "The first paragraph is this one.\nIt goes on.\n \nThe second is that.";
        assert_eq!(passages(text), ["The first paragraph is this one.\nIt goes on.", "The second is that."]);
    }

    #[test]
    fn a_heading_goes_with_what_follows() {
        assert_eq!(passages("Entropy\n\nIt only grows."), ["Entropy\nIt only grows."]);
    }

    #[test]
    fn a_long_paragraph_is_cut_between_sentences() {
        let text = "This sentence says one thing. ".repeat(200);
        let parts = passages(&text);
        assert!(parts.len() > 2);
        assert!(parts.iter().all(|p| p.len() <= LONG && p.ends_with("one thing.")));
        assert_eq!(parts.join(" "), text.trim());
    }

    #[test]
    fn there_is_always_a_passage() {
        assert_eq!(passages("foo"), ["foo"]);
        assert_eq!(passages("\u{1}").len(), 1);
    }
}
