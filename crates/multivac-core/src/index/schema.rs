//! The index's fields: one document a passage, and one for each datum that repeats a passage of another or has none, so that
//! the segments alone tell which data they hold. How it is stored: small blocks that are not compressed, since a question
//! reads some thirty documents from all over, and unpacking a large block for each of them would be most of the work.

use std::str::SplitTerminator;

use tantivy::columnar::Column;
use tantivy::schema::document::{DeserializeError, DocumentDeserialize, DocumentDeserializer};
use tantivy::schema::{
    BytesOptions, FAST, Field, INDEXED, IndexRecordOption, OwnedValue, STORED, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::store::Compressor;
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};
use tantivy::{DocId, IndexSettings, SegmentReader, TantivyDocument, TantivyError, Term};
use uuid::Uuid;

use super::owners::PassageHash;
use super::passage::{Passage, split};
use crate::datum::DatumId;

/// The name of [`Split`] in tantivy.
pub(super) const ANALYSER: &str = "multivac";

/// The names of the columns.
const ID_HIGH: &str = "id_high";
const ID_LOW: &str = "id_low";
const ID_END: &str = "id_end";
const HASH: &str = "hash";
const REPEATS: &str = "repeats";

/// The fields of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    /// The bytes of the datum's id, to find its documents by.
    id: Field,
    /// The id's columns: a UUID has two halves, an `ObjectId` of the original application an upper half and an end.
    id_high: Field,
    id_low: Field,
    id_end: Field,
    /// What passage it is, as a column.
    hash: Field,
    /// Which passage of another it repeats: a column, and to find a successor by.
    repeats: Field,
    /// The passage's terms with their frequencies.
    pub(super) terms: Field,
    /// The passage.
    pub(super) text: Field,
    /// Where its words and sentences lie, see [`Outline`](super::Outline).
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
    let fields = Fields {
        id: schema.add_bytes_field("id", BytesOptions::default().set_indexed()),
        id_high: schema.add_u64_field(ID_HIGH, FAST),
        id_low: schema.add_u64_field(ID_LOW, FAST),
        id_end: schema.add_u64_field(ID_END, FAST),
        hash: schema.add_u64_field(HASH, FAST),
        repeats: schema.add_u64_field(REPEATS, INDEXED | FAST),
        terms: schema.add_text_field("terms", TextOptions::default().set_indexing_options(indexing)),
        text: schema.add_text_field("text", STORED),
        outline: schema.add_bytes_field("outline", STORED),
    };
    (schema.build(), fields)
}

impl Fields {
    /// A document: a passage of a datum; without the passage, that the datum repeats one; without a hash, that it has none.
    pub(super) fn document(
        &self,
        id: DatumId,
        hash: Option<PassageHash>,
        passage: Option<&Passage>,
    ) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        match id {
            DatumId::Uuid(uuid) => {
                let (high, low) = uuid.as_u64_pair();
                document.add_bytes(self.id, uuid.as_bytes());
                document.add_u64(self.id_high, high);
                document.add_u64(self.id_low, low);
            }
            DatumId::Original(bytes) => {
                let [high @ .., _, _, _, _] = bytes;
                let [.., a, b, c, d] = bytes;
                document.add_bytes(self.id, &bytes);
                document.add_u64(self.id_high, u64::from_be_bytes(high));
                document.add_u64(self.id_end, u32::from_be_bytes([a, b, c, d]).into());
            }
        }
        match (hash, passage) {
            (Some(hash), Some(passage)) => {
                document.add_u64(self.hash, hash);
                document.add_text(self.terms, passage.joined_terms());
                document.add_text(self.text, &passage.text);
                document.add_bytes(self.outline, &passage.outline.encode());
            }
            (Some(hash), None) => document.add_u64(self.repeats, hash),
            (None, _) => {}
        }
        document
    }

    /// What all documents of a datum have.
    pub(super) fn id_term(&self, id: DatumId) -> Term {
        match id {
            DatumId::Uuid(uuid) => Term::from_field_bytes(self.id, uuid.as_bytes()),
            DatumId::Original(bytes) => Term::from_field_bytes(self.id, &bytes),
        }
    }

    /// What all documents of data have that repeat a passage.
    pub(super) fn repeats_term(&self, hash: PassageHash) -> Term {
        Term::from_field_u64(self.repeats, hash)
    }
}

/// The columns of one segment.
pub(super) struct Columns {
    id_high: Column<u64>,
    id_low: Column<u64>,
    id_end: Column<u64>,
    hash: Column<u64>,
    repeats: Column<u64>,
}

impl Columns {
    pub(super) fn open(segment: &SegmentReader) -> Result<Self, TantivyError> {
        let columns = segment.fast_fields();
        let [id_high, id_low, id_end, hash, repeats] =
            [ID_HIGH, ID_LOW, ID_END, HASH, REPEATS].map(|name| columns.u64(name));
        Ok(Self { id_high: id_high?, id_low: id_low?, id_end: id_end?, hash: hash?, repeats: repeats? })
    }

    /// Whose document it is; `None` where the segment is damaged.
    pub(super) fn id(&self, document: DocId) -> Option<DatumId> {
        let high = self.id_high.first(document)?;
        if let Some(low) = self.id_low.first(document) {
            return Some(DatumId::Uuid(Uuid::from_u64_pair(high, low)));
        }
        let end = u32::try_from(self.id_end.first(document)?).ok()?;
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&end.to_be_bytes());
        Some(DatumId::Original(bytes))
    }

    /// Whose documents it has that count, and what passages are in them.
    pub(super) fn read(&self, segment: &SegmentReader) -> Option<(Vec<DatumId>, Vec<PassageHash>)> {
        if self.id_high.num_docs() != segment.max_doc() {
            return None;
        }
        let (mut ids, mut hashes) = (Vec::new(), Vec::new());
        for document in segment.doc_ids_alive() {
            let id = self.id(document)?;
            // Those of one datum mostly follow each other.
            if ids.last() != Some(&id) {
                ids.push(id);
            }
            hashes.extend(self.hash(document));
        }
        Some((ids, hashes))
    }

    /// What passage it is.
    pub(super) fn hash(&self, document: DocId) -> Option<PassageHash> {
        self.hash.first(document)
    }

    /// Which passage it repeats.
    pub(super) fn repeats(&self, document: DocId) -> Option<PassageHash> {
        self.repeats.first(document)
    }
}

/// Gives tantivy a passage's terms one by one, which are found out before: see [`Passage`].
#[derive(Clone, Default)]
pub(super) struct Split {
    token: Token,
}

impl Tokenizer for Split {
    type TokenStream<'a> = SplitStream<'a>;

    fn token_stream<'a>(&'a mut self, terms: &'a str) -> SplitStream<'a> {
        self.token.reset();
        SplitStream { terms: split(terms), token: &mut self.token }
    }
}

/// For [`Split`].
pub(super) struct SplitStream<'a> {
    terms: SplitTerminator<'a, char>,
    token: &'a mut Token,
}

impl TokenStream for SplitStream<'_> {
    fn advance(&mut self) -> bool {
        let Some(term) = self.terms.next() else { return false };
        self.token.position = self.token.position.wrapping_add(1);
        self.token.text.clear();
        self.token.text.push_str(term);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}
