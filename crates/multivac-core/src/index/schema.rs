//! The index's fields: one document a passage. How it is stored: small blocks that are not compressed, since a question
//! reads some thirty documents from all over, and unpacking a large block for each of them would be most of the work.

use tantivy::IndexSettings;
use tantivy::schema::document::{DeserializeError, DocumentDeserialize, DocumentDeserializer};
use tantivy::schema::{Field, IndexRecordOption, OwnedValue, STORED, STRING, Schema, TextFieldIndexing, TextOptions};
use tantivy::store::Compressor;

/// The name of [`Terms`](super::terms::Terms) in tantivy.
pub(super) const ANALYSER: &str = "multivac";

/// The fields of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    /// The datum's id, to look it up and to remove its passages by.
    pub(super) id: Field,
    /// The passage: its terms with their frequencies, and its text.
    pub(super) passage: Field,
    /// Where its words and sentences lie, see [`Outline`](super::Outline); stored only.
    pub(super) outline: Field,
}

/// A document as it is stored.
pub(super) struct Stored(pub(super) Vec<(Field, OwnedValue)>);

impl DocumentDeserialize for Stored {
    fn deserialize<'de, D: DocumentDeserializer<'de>>(mut from: D) -> Result<Self, DeserializeError> {
        let mut fields = Vec::with_capacity(from.size_hint());
        while let Some(field) = from.next_field()? {
            fields.push(field);
        }
        Ok(Self(fields))
    }
}

/// How documents are stored.
pub(super) fn settings() -> IndexSettings {
    IndexSettings {
        docstore_compression: Compressor::None,
        docstore_blocksize: 4 << 10,
        // There is nothing to do that is worth a thread for each commit.
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    }
}

/// The schema and its fields.
pub(super) fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default().set_tokenizer(ANALYSER).set_index_option(IndexRecordOption::WithFreqs);
    let id = schema.add_text_field("id", STRING | STORED);
    let passage = schema.add_text_field("passage", TextOptions::default().set_indexing_options(indexing).set_stored());
    let outline = schema.add_bytes_field("outline", STORED);
    (schema.build(), Fields { id, passage, outline })
}
