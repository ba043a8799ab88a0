//! From text to passages: a passage is a paragraph, unless that is very long.

use super::markup::hidden;
use super::normalise::{GAP, normalise};
use super::sentences::{answerable, sentences};

/// The longest passage, in bytes, before a paragraph is split between sentences: a passage should be about one thing.
const MAX_PASSAGE_BYTES: usize = 2_000;

/// A single line shorter than this, in bytes, without an end mark, is a heading: it belongs to what follows it.
const HEADING_BYTES: usize = 80;

/// The passages of a text, in order; at least one.
#[must_use]
pub fn passages(text: &str) -> Vec<String> {
    let text = normalise(text);
    let mut passages = Vec::new();
    let mut start = 0;
    // Scripts, styles and comments separate paragraphs, and are in none.
    for range in hidden(&text) {
        passages_of(&text[start..range.start], &mut passages);
        start = range.end;
    }
    passages_of(&text[start..], &mut passages);
    if passages.is_empty() {
        // Nothing but control characters or a script: it is stored and can be fetched by its id, though hardly be found.
        split(text.trim(), &mut passages);
    }
    passages
}

fn passages_of(text: &str, passages: &mut Vec<String>) {
    let mut heading = String::new();
    for paragraph in paragraphs(text) {
        if paragraph.len() < HEADING_BYTES
            && !paragraph.contains('\n')
            && !paragraph.ends_with(['.', '!', '?', '"', '”', '。'])
        {
            heading.push_str(paragraph);
            heading.push('\n');
            if heading.len() < 2 * HEADING_BYTES {
                continue;
            }
            passages.push(std::mem::take(&mut heading).trim_end().to_owned());
            continue;
        }
        let whole = std::mem::take(&mut heading) + paragraph;
        split(&whole, passages);
    }
    if !heading.is_empty() {
        passages.push(heading.trim_end().to_owned());
    }
}

/// White space that may be within a sentence, as a [`GAP`] is not.
fn is_blank(c: char) -> bool {
    c.is_whitespace() && c != GAP
}

/// The paragraphs of a text: what is between blank lines.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(is_blank);
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len();
        let mut at = 0;
        for line in rest.split_inclusive('\n') {
            if line.chars().all(is_blank) {
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

/// Splits a long paragraph between sentences, and a sentence that is itself too long between clauses.
fn split(paragraph: &str, passages: &mut Vec<String>) {
    if paragraph.len() <= MAX_PASSAGE_BYTES {
        passages.push(paragraph.to_owned());
        return;
    }
    let (mut start, mut end) = (0, 0);
    let pieces = sentences(paragraph).into_iter().flat_map(|sentence| {
        if sentence.len() <= MAX_PASSAGE_BYTES {
            return vec![sentence];
        }
        let clauses = answerable(&paragraph[sentence.clone()]).into_iter();
        clauses.map(|clause| sentence.start + clause.bytes.start..sentence.start + clause.bytes.end).collect()
    });
    for piece in pieces {
        if piece.end - start > MAX_PASSAGE_BYTES && end > start {
            passages.push(paragraph[start..end].trim().to_owned());
            start = piece.start;
        }
        end = piece.end;
    }
    let rest = &paragraph[start..];
    // Signs without a word are no sentence, so their number has no other bound.
    let rest = rest.char_indices().nth(MAX_PASSAGE_BYTES).map_or(rest, |(end, _)| &rest[..end]);
    passages.push(rest.trim().to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_line_separates_passages() {
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
        assert!(parts.iter().all(|p| p.len() <= MAX_PASSAGE_BYTES && p.ends_with("one thing.")));
        assert_eq!(parts.join(" "), text.trim());
    }

    #[test]
    fn a_passage_is_bounded_where_nothing_ends_a_sentence() {
        for text in
            ["word ".repeat(20_000), "x".repeat(100_000), "宇宙".repeat(30_000), "a ".to_owned() + &"-".repeat(99_999)]
        {
            let parts = passages(&text);
            assert!(parts.iter().all(|part| part.len() <= 3 * MAX_PASSAGE_BYTES), "{}", parts.len());
            let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
            assert_eq!(parts.iter().map(|part| letters(part)).sum::<usize>(), letters(&text));
        }
    }

    #[test]
    fn scripts_and_comments_are_in_no_passage() {
        let page = "<p>Stars shine.</p>\n<script>\nlet dark = 1;\n\nlet cold = 2;\n</script><!-- nobody\n\nsees -->\n<p>They go out.</p>";
        assert_eq!(passages(page), ["<p>Stars shine.</p>", "<p>They go out.</p>"]);
        assert_eq!(passages("<script>alone()</script>"), ["<script>alone()</script>"]);
    }

    #[test]
    fn there_is_always_a_passage() {
        assert_eq!(passages("foo"), ["foo"]);
        assert_eq!(passages("\u{1}").len(), 1);
    }
}
