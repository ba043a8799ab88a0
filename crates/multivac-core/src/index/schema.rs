//! The index's fields: one document a passage.

use tantivy::schema::{Field, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions};

/// The name of [`Terms`](super::terms::Terms) in tantivy.
pub(super) const ANALYSER: &str = "multivac";

/// The fields of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    /// The datum's id, to look it up and to remove its passages by.
    pub(super) id: Field,
    /// The passage: its terms with their frequencies, and its text.
    pub(super) passage: Field,
}

/// The schema and its fields.
pub(super) fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default().set_tokenizer(ANALYSER).set_index_option(IndexRecordOption::WithFreqs);
    let id = schema.add_text_field("id", STRING | STORED);
    let passage = schema.add_text_field("passage", TextOptions::default().set_indexing_options(indexing).set_stored());
    (schema.build(), Fields { id, passage })
}
