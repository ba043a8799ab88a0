//! What confidence means where an operator has calibrated it: a curve from the model's confidence to the share of right
//! answers among own questions, and the threshold there. `recalibration.rs` makes it, a file keeps it.
//!
//! The file is one JSON object, [`File`]. A curve is of one model: another one's confidence has another meaning.

use serde::{Deserialize, Serialize};

use super::model::fingerprint;

/// What the format is called in the file.
const FORMAT: &str = "multivac-calibration";

/// The version of the format; one that is higher cannot be read.
const VERSION: u32 = 1;

/// From which confidence on there is an answer, and what confidence means.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// The confidence below which there is no answer.
    pub min_confidence: f64,
    /// Pairs of the model's confidence and what it means, rising; none where it means what the model says.
    curve: Vec<(f64, f64)>,
}

/// Why a file is no calibration.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// It is something else, or was changed.
    #[error("expected what `multivac-api calibrate` writes, and {0}")]
    Malformed(String),
    /// A newer release wrote it.
    #[error("it is of version {0} of the format, and this release knows {VERSION}: calibrate again with this release")]
    Newer(u64),
    /// The model has changed since.
    #[error("it was made for model {of}, and this release has model {}: calibrate again", fingerprint())]
    OtherModel {
        /// The model it was made for.
        of: String,
    },
}

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// [`FORMAT`].
    format: String,
    /// [`VERSION`].
    version: u32,
    /// Of which model the curve is.
    model: String,
    /// Which release wrote it.
    by: String,
    /// When, RFC 3339.
    calibrated_at: String,
    /// Out of how many questions.
    questions: usize,
    /// The confidence, on the curve's side, below which there is no answer.
    min_confidence: f64,
    /// Pairs of the model's confidence and what it means.
    curve: Vec<(f64, f64)>,
}

/// As the model was fitted, from this confidence on.
impl From<f64> for Calibration {
    fn from(min_confidence: f64) -> Self {
        Self { min_confidence, curve: Vec::new() }
    }
}

impl Calibration {
    /// Of a curve and a threshold; see [`File`]. `None` where they are none: from 0 to 1, and the curve never falls.
    pub(super) fn new(min_confidence: f64, curve: Vec<(f64, f64)>) -> Option<Self> {
        let is_share = |p: &f64| (0.0..=1.0).contains(p);
        let fits = is_share(&min_confidence)
            && !curve.is_empty()
            && curve.iter().all(|(x, y)| is_share(x) && is_share(y))
            && curve.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
        fits.then_some(Self { min_confidence, curve })
    }

    /// What the model's confidence means: interpolated on the curve; beyond its ends, the value of the nearer end.
    #[must_use]
    pub fn confidence(&self, of_model: f64) -> f64 {
        let after = self.curve.partition_point(|(x, _)| *x <= of_model);
        match (after.checked_sub(1).map(|before| self.curve[before]), self.curve.get(after)) {
            (None, None) => of_model,
            (Some((_, y)), None) | (None, Some(&(_, y))) => y,
            (Some((x1, y1)), Some(&(x2, y2))) => y1 + (y2 - y1) * (of_model - x1) / (x2 - x1),
        }
    }

    /// How many points its curve has.
    #[must_use]
    pub fn points(&self) -> usize {
        self.curve.len()
    }

    /// The file of it, out of so many questions.
    #[must_use]
    pub fn write(&self, questions: usize, by: &str, calibrated_at: &str) -> String {
        let file = File {
            format: FORMAT.to_owned(),
            version: VERSION,
            model: fingerprint().to_owned(),
            by: by.to_owned(),
            calibrated_at: calibrated_at.to_owned(),
            questions,
            min_confidence: self.min_confidence,
            curve: self.curve.clone(),
        };
        let text = serde_json::to_string(&file).expect("an object of texts and finite numbers");
        text + "\n"
    }

    /// Reads a file.
    ///
    /// # Errors
    /// See [`CalibrationError`].
    pub fn read(text: &str) -> Result<Self, CalibrationError> {
        let malformed = |why: serde_json::Error| CalibrationError::Malformed(why.to_string());
        // Only the name and the version are the same in all versions.
        let said: serde_json::Value = serde_json::from_str(text).map_err(malformed)?;
        if said["format"] != FORMAT {
            return Err(CalibrationError::Malformed(format!("its \"format\" is not \"{FORMAT}\"")));
        }
        if let Some(newer) = said["version"].as_u64().filter(|version| *version > u64::from(VERSION)) {
            return Err(CalibrationError::Newer(newer));
        }
        // Out of the text once more, for an error that says where.
        let file: File = serde_json::from_str(text).map_err(malformed)?;
        if file.version != VERSION {
            return Err(CalibrationError::Malformed(format!("its version is {}", file.version)));
        }
        if file.model != fingerprint() {
            return Err(CalibrationError::OtherModel { of: file.model });
        }
        let why = "its curve is not pairs of numbers from 0 to 1, the first rising and the second not falling, or its \
                   min_confidence is not from 0 to 1";
        Self::new(file.min_confidence, file.curve).ok_or_else(|| CalibrationError::Malformed(why.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> Calibration {
        Calibration::new(0.4, vec![(0.1, 0.0), (0.5, 0.2), (0.9, 0.8)]).expect("a curve")
    }

    #[test]
    fn confidence_is_interpolated_on_the_curve_and_without_one_it_is_the_models() {
        for (of_model, confidence) in
            [(0.0, 0.0), (0.1, 0.0), (0.3, 0.1), (0.5, 0.2), (0.7, 0.5), (0.9, 0.8), (1.0, 0.8)]
        {
            assert!((curve().confidence(of_model) - confidence).abs() < 1e-9, "{of_model}");
        }
        for of_model in [0.0, 0.123, 1.0] {
            assert_eq!(Calibration::from(0.3).confidence(of_model), of_model);
        }
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let text = curve().write(250, "0.2.0", "2026-11-28T03:00:00Z");
        assert!(text.ends_with("}\n") && text.contains("\"questions\":250"), "{text}");
        assert_eq!(Calibration::read(&text).expect("as written"), curve());
    }

    #[test]
    fn what_is_no_calibration_is_refused_with_what_was_expected() {
        let whole = curve().write(250, "0.2.0", "2026-11-28T03:00:00Z");
        let with = |from: &str, to: &str| {
            assert!(whole.contains(from), "{from} is in {whole}");
            whole.replace(from, to)
        };
        let pairs = "[[0.1,0.0],[0.5,0.2],[0.9,0.8]]";
        let calibrate = "`multivac-api calibrate`";
        for (text, expected) in [
            (String::new(), calibrate),
            ("{}".to_owned(), "\"format\""),
            ("[1]".to_owned(), "\"format\""),
            (whole[..whole.len() / 2].to_owned(), calibrate),
            (format!("{whole}{whole}"), "trailing"),
            (with("multivac-calibration", "multivac-backup"), "\"format\""),
            (with("\"version\":1", "\"version\":2"), "version 2 of the format"),
            (with("\"version\":1", "\"version\":0"), "its version is 0"),
            (with("\"version\":1", "\"version\":\"1\""), calibrate),
            (with("\"curve\"", "\"curves\""), "curves"),
            (with(",\"questions\":250", ""), "questions"),
            (with(fingerprint(), "0123456789abcdef"), "for model 0123456789abcdef"),
            (with("\"min_confidence\":0.4", "\"min_confidence\":1.4"), "not from 0 to 1"),
            (with("\"min_confidence\":0.4", "\"min_confidence\":null"), calibrate),
            (with(pairs, "[]"), "not pairs"),
            (with(pairs, "[[0.1]]"), calibrate),
            (with(pairs, "[[0.1,1e999]]"), calibrate),
            (with(pairs, "[[0.1,-0.1],[0.5,0.2]]"), "not pairs"),
            (with(pairs, "[[0.1,0.2],[0.5,1.2]]"), "not pairs"),
            (with(pairs, "[[0.1,0.2],[0.5,0.1]]"), "not falling"),
            (with(pairs, "[[0.5,0.2],[0.5,0.3]]"), "rising"),
            (with(pairs, "[[0.5,0.2],[0.4,0.3]]"), "rising"),
        ] {
            let said = Calibration::read(&text).expect_err(&text).to_string();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "\\PC{0,60}") {
            proptest::prop_assert!(Calibration::read(&text).is_err());
        }

        #[test]
        fn a_higher_confidence_never_becomes_a_lower_one(
            points in proptest::collection::vec((0.0..=1.0_f64, 0.0..=1.0_f64), 1..20), two in (0.0..=1.0_f64, 0.0..=1.0_f64),
        ) {
            let (mut xs, mut ys): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
            xs.sort_by(f64::total_cmp);
            xs.dedup();
            ys.sort_by(f64::total_cmp);
            let curve = Calibration::new(0.0, xs.into_iter().zip(ys).collect()).expect("it rises");
            let (low, high) = (curve.confidence(two.0.min(two.1)), curve.confidence(two.0.max(two.1)));
            proptest::prop_assert!(low <= high + 1e-12 && (0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
        }
    }
}
