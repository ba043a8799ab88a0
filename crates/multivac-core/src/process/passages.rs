//! From text to passages: a passage is a paragraph, unless that is very long.

use std::ops::Range;

use super::markup::hidden;
use super::normalise::{GAP, normalise};
use super::sentences::{answerable, sentences};
use super::shapes::{HEADING_BYTES, Shape};

/// The longest passage, in bytes, before a paragraph is split between sentences: a passage should be about one thing.
const MAX_PASSAGE_BYTES: usize = 2_000;

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
    // Whether the last passage is a list that may go on after a blank line.
    let mut list = false;
    for paragraph in paragraphs(text) {
        let item = Shape::of(paragraph, 0..paragraph.find('\n').unwrap_or(paragraph.len())).is_item();
        if let Some(last) =
            passages.last_mut().filter(|last| list && item && last.len() + paragraph.len() < MAX_PASSAGE_BYTES)
        {
            last.push('\n');
            last.push_str(paragraph);
            continue;
        }
        list = item;
        if !item && is_heading(paragraph) {
            heading.push_str(paragraph);
            heading.push('\n');
            if heading.len() < if paragraph.ends_with(':') { 4 } else { 2 } * HEADING_BYTES {
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

/// Whether a paragraph belongs to what follows it: a short line without an end mark, or the lead-in of a list.
fn is_heading(paragraph: &str) -> bool {
    let lead_in = paragraph.ends_with(':') && paragraph.len() < 2 * HEADING_BYTES;
    !paragraph.contains('\n')
        && (lead_in || paragraph.len() < HEADING_BYTES)
        && !paragraph.ends_with(['.', '!', '?', '"', '”', '。', ','])
}

/// White space that may be within a sentence, as a [`GAP`] is not.
fn is_blank(c: char) -> bool {
    c.is_whitespace() && c != GAP
}

/// The paragraphs of a text: what is between blank lines. One of several lines keeps its indentation.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let begun = rest.trim_start_matches(is_blank);
        if begun.is_empty() {
            return None;
        }
        let blank = &rest[..rest.len() - begun.len()];
        rest = &rest[blank.rfind('\n').map_or(0, |end| end + 1)..];
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
        let paragraph = paragraph.trim_end();
        Some(if paragraph.contains('\n') { paragraph } else { paragraph.trim_start() })
    })
}

/// Splits a long paragraph between sentences, and a sentence that is itself too long between clauses. What leads the first
/// sentence of a passage, as the head of a table does, is repeated before it.
fn split(paragraph: &str, passages: &mut Vec<String>) {
    if paragraph.len() <= MAX_PASSAGE_BYTES {
        passages.push(paragraph.to_owned());
        return;
    }
    let clauses = answerable(paragraph);
    let from = |at: usize| clauses.partition_point(|clause| clause.bytes.start < at);
    let pieces = sentences(paragraph).into_iter().flat_map(|sentence| {
        if sentence.len() <= MAX_PASSAGE_BYTES {
            return vec![sentence];
        }
        clauses[from(sentence.start)..from(sentence.end)].iter().map(|clause| clause.bytes.clone()).collect()
    });
    let (mut start, mut end) = (0, 0);
    let mut head = String::new();
    for piece in pieces {
        if head.len() + piece.end - start > MAX_PASSAGE_BYTES && end > start {
            passages.push(std::mem::take(&mut head) + paragraph[start..end].trim());
            start = piece.start;
            let lead = clauses.get(from(start)).and_then(|clause| clause.lead);
            head = lead.map(|lead| head_of(paragraph, &clauses[lead].bytes)).unwrap_or_default();
        }
        end = piece.end;
    }
    let rest = &paragraph[start..];
    // Signs without a word are no sentence, so their number has no other bound.
    let rest = rest.char_indices().nth(MAX_PASSAGE_BYTES).map_or(rest, |(end, _)| &rest[..end]);
    passages.push(head + rest.trim());
}

/// A lead as it is repeated at the beginning of a passage, with the line under it that makes it a table's head.
fn head_of(paragraph: &str, lead: &Range<usize>) -> String {
    let under = paragraph[lead.end..].trim_start_matches(' ').strip_prefix('\n').and_then(|under| {
        let length = under.bytes().take(HEADING_BYTES).position(|byte| byte == b'\n')? + 1;
        Some(&under[..length]).filter(|under| !under.contains(char::is_alphanumeric))
    });
    format!("{}\n{}", &paragraph[lead.clone()], under.unwrap_or_default())
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
    fn a_long_table_is_cut_between_rows_and_each_passage_has_the_head() {
        for (head, row) in
            [("name;phone\n", "Petra Lind;555 12"), ("| name | phone |\n|---|---|\n", "| Petra Lind | 555 12 |")]
        {
            let rows: Vec<String> = (0..400).map(|number| format!("{row}{number}")).collect();
            let parts = passages(&(head.to_owned() + &rows.join("\n")));
            assert!(
                parts.len() > 3 && parts.iter().all(|part| part.starts_with(head) && part.len() <= MAX_PASSAGE_BYTES)
            );
            assert_eq!(parts.iter().flat_map(|part| part[head.len()..].lines()).collect::<Vec<_>>(), rows);
        }
    }

    #[test]
    fn a_list_goes_on_after_a_blank_line_and_has_its_lead_in() {
        assert_eq!(
            passages("The winners are:\n\n- Petra\n\n- Jon\n\nAll is well."),
            ["The winners are:\n- Petra\n- Jon", "All is well."]
        );
        assert_eq!(passages("Hello Jon,\n\nall is well."), ["Hello Jon,", "all is well."]);
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
