//! Every JSON reply as a type. The OpenAPI document is made of them, so a field that is added here is documented too.
//!
//! They borrow from what they reply with. The fields stand in the order in which they are sent.

mod operators;

use std::borrow::Cow;
use std::collections::BTreeMap;

use multivac_core::datum::DatumId;
use multivac_core::index::{Kind, RecentChange};
use multivac_core::queue::Ledger;
use multivac_core::{answer, status};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use operators::{DeadLetter, DeadLetterWithText, DeadLetters, Imported, Retried, RetriedProblem, System};

/// An answer to a question, or that the data do not carry one.
#[derive(Serialize, ToSchema)]
pub(crate) struct Answer<'a> {
    /// The question, as it was asked.
    question: &'a str,
    status: AnswerStatus,
    /// A sentence out of the data, word for word (a clause, if the sentence is over 300 characters); null if there is no
    /// answer.
    #[schema(required)]
    answer: Option<&'a str>,
    /// How likely the best sentence is to be right.
    #[schema(minimum = 0, maximum = 1)]
    confidence: f64,
    /// The confidence from which on there is an answer.
    #[schema(minimum = 0, maximum = 1)]
    threshold: f64,
    /// What the answer rests on, or what came nearest; best first.
    #[schema(max_items = 10)]
    evidence: Vec<Evidence<'a>>,
    /// If there is no answer: the question's words that no datum holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    missing: Option<&'a [String]>,
    /// How many data were searched.
    learned: u64,
}

/// Whether the data carry an answer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AnswerStatus {
    Answered,
    InsufficientData,
}

/// A passage that bears on the question.
#[derive(Serialize, ToSchema)]
pub(crate) struct Evidence<'a> {
    /// The datum that holds it.
    #[schema(value_type = String)]
    id: DatumId,
    passage: &'a str,
    /// The passage's words, as they stand in it, that met the question's terms.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    #[schema(required = false)]
    matched: &'a [String],
    /// How likely its best sentence is to be right.
    #[schema(minimum = 0, maximum = 1)]
    score: f64,
    /// Whether it agrees with the answer, if it states the same subject in another datum.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    stance: Option<Stance>,
    /// What the score rests on most, by the feature's name.
    #[schema(value_type = BTreeMap<String, f32>)]
    features: &'a BTreeMap<&'static str, f32>,
}

/// How a piece of evidence relates to the answer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stance {
    Agrees,
    Contradicts,
}

impl<'a> From<&'a answer::Answer> for Answer<'a> {
    fn from(answer: &'a answer::Answer) -> Self {
        Self {
            question: &answer.question,
            status: match answer.status {
                answer::Status::Answered => AnswerStatus::Answered,
                answer::Status::InsufficientData => AnswerStatus::InsufficientData,
            },
            answer: answer.answer.as_deref(),
            confidence: answer.confidence,
            threshold: answer.threshold,
            evidence: answer.evidence.iter().map(Evidence::from).collect(),
            missing: answer.missing.as_deref(),
            learned: answer.learned,
        }
    }
}

impl<'a> From<&'a answer::Evidence> for Evidence<'a> {
    fn from(evidence: &'a answer::Evidence) -> Self {
        Self {
            id: evidence.id,
            passage: &evidence.passage,
            matched: &evidence.matched,
            score: evidence.score,
            stance: evidence.stance.map(|stance| match stance {
                answer::Stance::Agrees => Stance::Agrees,
                answer::Stance::Contradicts => Stance::Contradicts,
            }),
            features: &evidence.features,
        }
    }
}

/// What the answer to a question has become.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnswerEvent<'a> {
    #[serde(flatten)]
    #[schema(inline)]
    answer: Answer<'a>,
    /// What it was before; null in the first event of a stream, which tells what it is.
    #[schema(required)]
    before: Option<Answer<'a>>,
    /// The datum that tipped it; null in the first event, and where none did it alone.
    #[schema(required)]
    because: Option<Because>,
}

/// What changed an answer.
#[derive(Serialize, ToSchema)]
pub(crate) struct Because {
    #[schema(value_type = String)]
    id: DatumId,
    kind: BecauseKind,
}

/// Whether the datum was learned or retracted.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BecauseKind {
    Learned,
    Retracted,
}

impl<'a> AnswerEvent<'a> {
    pub(crate) fn new(
        answer: &'a answer::Answer,
        before: Option<&'a answer::Answer>,
        because: Option<RecentChange>,
    ) -> Self {
        let because = because.map(|change| Because {
            id: change.id,
            kind: match change.kind {
                Kind::Learned => BecauseKind::Learned,
                Kind::Retracted => BecauseKind::Retracted,
            },
        });
        Self { answer: answer.into(), before: before.map(Answer::from), because }
    }
}

/// A datum was accepted. The clients of the original application know the fields in this order.
#[derive(Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// Always the same.
    #[schema(example = "MultiVAC updated!")]
    response: &'static str,
    #[schema(value_type = String)]
    id: DatumId,
}

impl Accepted {
    pub(crate) fn new(id: DatumId) -> Self {
        Self { response: "MultiVAC updated!", id }
    }
}

/// What became of the lines of a bulk request.
#[derive(Serialize, ToSchema)]
pub(crate) struct BulkAccepted<'a> {
    pub(crate) accepted: usize,
    /// If lines had keys of their own: how many of the accepted were known by them already, so that nothing was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) known: Option<usize>,
    /// The lines that were not accepted; the first 10,000 of them.
    pub(crate) rejected: &'a [RejectedLine],
    /// How many lines were not accepted, if they are more than `rejected` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) rejected_in_all: Option<u64>,
    /// The ids of the accepted lines, in their order.
    #[schema(value_type = Vec<String>)]
    pub(crate) ids: &'a [DatumId],
    /// The first line that was not tried: the queue failed at an earlier one, or the body breaks off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    pub(crate) next_line: Option<u64>,
}

/// A problem with a bulk request (RFC 9457). If its body breaks off, what became of the lines before that.
#[derive(Serialize, ToSchema)]
pub(crate) struct BulkProblem<'a> {
    #[serde(flatten)]
    pub(crate) problem: Problem<'a>,
    #[serde(flatten)]
    #[schema(inline)]
    pub(crate) outcome: Option<BulkAccepted<'a>>,
}

/// A line that was not accepted.
#[derive(Serialize, ToSchema)]
pub(crate) struct RejectedLine {
    /// Its number, from 1.
    #[schema(minimum = 1)]
    pub(crate) line: u64,
    /// Why.
    pub(crate) detail: String,
    /// If it is not the line's fault: after how many seconds to send it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) retry_after: Option<u64>,
}

/// Where a datum stands.
#[derive(Serialize, ToSchema)]
pub(crate) struct DatumStatus {
    #[schema(value_type = String)]
    id: DatumId,
    status: DatumState,
    /// When it was accepted, if that is known.
    #[schema(required, format = DateTime)]
    received_at: Option<String>,
    /// When it was processed, once it was.
    #[schema(required, format = DateTime)]
    processed_at: Option<String>,
    /// How many passages were made of it.
    passages: usize,
    /// Once it is retracted: how many replicas may still answer with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    visible_to: Option<usize>,
}

/// The states of a datum: accepted and not to be answered with yet; answers may rest on it; in the dead letters; taken
/// back.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DatumState {
    Queued,
    Processed,
    Failed,
    Retracted,
}

impl DatumStatus {
    pub(crate) fn new(id: DatumId, status: &status::DatumStatus) -> Self {
        Self {
            id,
            status: match status.state {
                status::DatumState::Queued => DatumState::Queued,
                status::DatumState::Processed => DatumState::Processed,
                status::DatumState::Failed => DatumState::Failed,
                status::DatumState::Retracted => DatumState::Retracted,
            },
            received_at: status.received_at.map(|at| at.to_string()),
            processed_at: status.processed_at.map(|at| at.to_string()),
            passages: status.passages,
            visible_to: status.visible_to,
        }
    }
}

/// A datum was retracted for good, but some replicas have not confirmed yet that they have seen it.
#[derive(Serialize, ToSchema)]
pub(crate) struct RetractedInPart {
    #[schema(value_type = String)]
    id: DatumId,
    status: DatumState,
    detail: &'static str,
    /// The replicas that have not confirmed it.
    replicas: Vec<String>,
}

impl RetractedInPart {
    pub(crate) fn new(id: DatumId, replicas: Vec<String>) -> Self {
        let detail = "retracted for good; these replicas have not said yet that they have seen it";
        Self { id, status: DatumState::Retracted, detail, replicas }
    }
}

/// Counts of data; accepted = queued + processing + learned + retracted + dead.
#[derive(Serialize, ToSchema)]
pub(crate) struct Stats {
    accepted: u64,
    queued: u64,
    processing: u64,
    learned: u64,
    retracted: u64,
    dead: u64,
    /// Passages in this replica's index.
    passages: u64,
}

impl Stats {
    pub(crate) fn new(ledger: &Ledger, passages: u64) -> Self {
        let Ledger { accepted, queued, processing, learned, retracted, dead } = *ledger;
        Self { accepted, queued, processing, learned, retracted, dead, passages }
    }
}

/// Whether requests should come to this replica.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness<'a> {
    pub(crate) ready: bool,
    /// What is missing; a ready replica may miss the queue or the store.
    #[schema(value_type = Vec<String>)]
    pub(crate) missing: Vec<Cow<'static, str>>,
    /// Settings of the queue's server under which accepted data could be lost.
    pub(crate) warnings: &'a [String],
}

/// What went wrong (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(crate) struct Problem<'a> {
    /// Always `about:blank`: the status says it all.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) title: &'a str,
    #[schema(minimum = 400, maximum = 599)]
    pub(crate) status: u16,
    pub(crate) detail: &'a str,
    /// The trace that the request belongs to, as the log names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) trace_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_sent_with_its_fields_in_order() {
        let id: DatumId = "01980000-0000-7000-8000-000000000000".parse().expect("an id");
        let evidence = answer::Evidence {
            id,
            passage: "Stars go out.".to_owned(),
            matched: vec!["out".to_owned()],
            score: 0.5,
            stance: Some(answer::Stance::Agrees),
            features: BTreeMap::from([("rank", 1.0)]),
        };
        let mut answer = answer::Answer {
            question: "What goes out?".to_owned(),
            status: answer::Status::Answered,
            answer: Some("Stars go out.".to_owned()),
            confidence: 0.5,
            threshold: 0.25,
            evidence: vec![evidence],
            missing: None,
            learned: 1,
        };
        let json = |answer: &answer::Answer| serde_json::to_string(&Answer::from(answer)).expect("it can be written");
        assert_eq!(
            json(&answer),
            r#"{"question":"What goes out?","status":"answered","answer":"Stars go out.","confidence":0.5,"threshold":0.25,"#.to_owned()
                + r#""evidence":[{"id":"01980000-0000-7000-8000-000000000000","passage":"Stars go out.","matched":["out"],"score":0.5,"#
                + r#""stance":"agrees","features":{"rank":1.0}}],"learned":1}"#
        );
        answer.status = answer::Status::InsufficientData;
        (answer.answer, answer.missing, answer.evidence) = (None, Some(vec!["moons".to_owned()]), Vec::new());
        assert_eq!(
            json(&answer),
            r#"{"question":"What goes out?","status":"insufficient_data","answer":null,"confidence":0.5,"threshold":0.25,"#.to_owned()
                + r#""evidence":[],"missing":["moons"],"learned":1}"#
        );
    }
}
