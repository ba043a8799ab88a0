//! Own questions to a [`Calibration`]: how far the model's confidence can be trusted on them, a curve that mends it, and the
//! threshold. Pure arithmetic; `commands/calibrate.rs` asks the questions.
//!
//! Three ways are tried: the confidence as the model states it; a logistic curve on its logit (Platt 1999), which two numbers
//! describe, so that few questions suffice; and, from [`MIN_FOR_STEPS`] questions on, isotonic regression by pooling adjacent
//! violators (Barlow et al. 1972), which takes any shape. Each is tried on questions that it was not fitted to
//! (cross-validation), and the one with the least error there is fitted to all. So what is reported of the new confidence,
//! and the threshold, come from questions that each curve had not seen.

use serde::Serialize;

use super::calibration::Calibration;
use super::model::fitted_threshold;

/// Questions that are needed at least: with fewer, even two numbers follow chance.
const MIN_QUESTIONS: usize = 30;

/// Of these, right ones and wrong ones that are needed at least.
const MIN_OF_EACH: usize = 5;

/// From so many questions on, steps are tried: there are ten groups of [`GROUP`] then.
const MIN_FOR_STEPS: usize = 200;

/// Questions of like confidence that are counted together before adjacent groups are pooled: a step at the end of the curve
/// would otherwise be one question or two.
const GROUP: usize = 20;

const FOLDS: usize = 10;

/// The precisions for which the report names a threshold.
const PRECISIONS: [f64; 4] = [0.7, 0.8, 0.9, 0.95];

/// A question that was asked with threshold 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The model's confidence in what came.
    pub confidence: f64,
    /// Whether anything came: where no passage has a word of the question, nothing does, and its confidence stays 0.
    pub found: bool,
    /// Whether the data hold an answer.
    pub answerable: bool,
    /// Whether what came is right.
    pub right: bool,
}

/// Too little to calibrate on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected {MIN_QUESTIONS} questions or more for which something is found, of which what is found is right for \
     {MIN_OF_EACH} or more, and wrong for {MIN_OF_EACH} or more; there are {found}, {right} right and {} wrong", .found - .right
)]
pub struct TooFew {
    /// For how many something was found.
    pub found: usize,
    /// For how many that was right.
    pub right: usize,
}

/// What was found, and what it comes to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recalibration {
    /// Questions that were asked.
    pub questions: usize,
    /// Those that the data answer.
    pub answerable: usize,
    /// Those for which what came is right, whatever its confidence.
    pub right: usize,
    /// Of the model's confidence.
    pub before: Reliability,
    /// Of the calibrated confidence, each question's by a curve that was fitted without it.
    pub after: Reliability,
    /// Which way had the least error.
    pub way: Way,
    /// What answering from the fitted threshold on comes to, without a calibration.
    pub at_fitted: Triggering,
    /// What answering from the new threshold on comes to: that of the best F1.
    pub at_best: Triggering,
    /// The least confidence from which on so many answers were right, for several shares.
    pub at_precisions: Vec<Triggering>,
    /// The result.
    #[serde(skip)]
    pub calibration: Calibration,
}

/// How confidence becomes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Not at all: neither of the others is better.
    AsStated,
    /// By a logistic curve.
    Logistic,
    /// By steps, in between which is interpolated.
    Isotonic,
}

/// How far a confidence can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// The questions by tenths of the confidence, lowest first.
    pub tenths: [Tenth; 10],
    /// By how much stated and right differ in the tenths, weighted by their questions: the expected calibration error.
    pub calibration_error: f64,
    /// How often a right one has more confidence than a wrong one; 0.5 is chance.
    pub auroc: f64,
    /// The mean squared difference of the confidence and 1 (right) or 0 (wrong).
    pub brier: f64,
}

/// The questions whose confidence is in one tenth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Tenth {
    /// How many.
    pub questions: usize,
    /// Their mean confidence.
    pub stated: f64,
    /// The share of them for which what came is right.
    pub right: f64,
}

/// What answering from a confidence on comes to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Triggering {
    /// The confidence.
    pub from: f64,
    /// The share of all questions that get an answer.
    pub answered: f64,
    /// The share of these answers that is right.
    pub precision: f64,
    /// The share of the questions with an answer that get a right one.
    pub recall: f64,
    /// The harmonic mean of precision and recall.
    pub f1: f64,
}

/// Finds out how far confidence can be trusted on these questions, and calibrates it.
///
/// # Errors
/// When they are too few, or all alike.
pub fn recalibrate(judged: &[Judged]) -> Result<Recalibration, TooFew> {
    let found: Vec<Judged> = judged.iter().copied().filter(|one| one.found).collect();
    let right = found.iter().filter(|one| one.right).count();
    if found.len() < MIN_QUESTIONS || right < MIN_OF_EACH || found.len() - right < MIN_OF_EACH {
        return Err(TooFew { found: found.len(), right });
    }
    let ways = [Way::AsStated, Way::Logistic, Way::Isotonic];
    let tried = ways.into_iter().filter(|way| *way != Way::Isotonic || found.len() >= MIN_FOR_STEPS);
    let tried = tried.map(|way| (way, held_out(way, judged)));
    // The first of equals is the simplest.
    let best = tried.reduce(|best, other| if brier(&other.1, judged) < brier(&best.1, judged) { other } else { best });
    let (way, held_out) = best.expect("three ways");
    let stated: Vec<f64> = judged.iter().map(|one| one.confidence).collect();
    let at_best = best_f1(&held_out, judged);
    let calibration = Calibration::new(at_best.from, fit(way, &found)).expect("shares that rise");
    let at_precision = |precision: &f64| lowest_with(*precision, &held_out, judged);
    Ok(Recalibration {
        questions: judged.len(),
        answerable: judged.iter().filter(|one| one.answerable).count(),
        right,
        before: reliability(&stated, judged),
        after: reliability(&held_out, judged),
        way,
        at_fitted: triggering(fitted_threshold(), &stated, judged),
        at_best,
        at_precisions: PRECISIONS.iter().filter_map(at_precision).collect(),
        calibration,
    })
}

/// The confidence of each question, by a curve that was fitted without it and a tenth of the others.
fn held_out(way: Way, judged: &[Judged]) -> Vec<f64> {
    // Each fold has questions of all confidences, and which ones does not depend on chance.
    let mut order: Vec<usize> = (0..judged.len()).filter(|at| judged[*at].found).collect();
    order.sort_by(|a, b| {
        let key = |at: &usize| (judged[*at].confidence, judged[*at].right);
        key(a).0.total_cmp(&key(b).0).then(key(a).1.cmp(&key(b).1))
    });
    let mut confidences = vec![0.0; judged.len()];
    for fold in 0..FOLDS {
        let (of_fold, others): (Vec<_>, Vec<_>) =
            order.iter().enumerate().partition(|(place, _)| place % FOLDS == fold);
        let others: Vec<Judged> = others.into_iter().map(|(_, at)| judged[*at]).collect();
        let curve = Calibration::new(0.0, fit(way, &others)).expect("shares that rise");
        for (_, at) in of_fold {
            confidences[*at] = round(curve.confidence(judged[*at].confidence));
        }
    }
    confidences
}

/// The curve: pairs of the model's confidence and the calibrated one.
fn fit(way: Way, judged: &[Judged]) -> Vec<(f64, f64)> {
    match way {
        Way::AsStated => vec![(0.0, 0.0), (1.0, 1.0)],
        Way::Logistic => logistic(judged),
        Way::Isotonic => isotonic(judged),
    }
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(0.001, 0.999);
    (p / (1.0 - p)).ln()
}

fn sigmoid(sum: f64) -> f64 {
    1.0 / (1.0 + (-sum).exp())
}

/// `sigmoid(slope · logit + shift)`, at each hundredth. The prior is that confidence is right as it is (slope 1, shift 0, each
/// with a standard deviation of 1): it decides where the questions say little, and bounds the slope where right and wrong
/// could be told apart in full.
fn logistic(judged: &[Judged]) -> Vec<(f64, f64)> {
    let (mut slope, mut shift) = (1.0, 0.0);
    // Newton's method on a strictly convex sum; it is there after a few steps.
    for _ in 0..50 {
        let (mut of_slope, mut of_shift) = (slope - 1.0, shift);
        let (mut slope_slope, mut slope_shift, mut shift_shift) = (1.0, 0.0, 1.0);
        for one in judged {
            let x = logit(one.confidence);
            let p = sigmoid(slope * x + shift);
            let (off, weight) = (p - f64::from(u8::from(one.right)), p * (1.0 - p));
            of_slope += off * x;
            of_shift += off;
            slope_slope += weight * x * x;
            slope_shift += weight * x;
            shift_shift += weight;
        }
        let determinant = slope_slope * shift_shift - slope_shift * slope_shift;
        let steps = (
            (shift_shift * of_slope - slope_shift * of_shift) / determinant,
            (slope_slope * of_shift - slope_shift * of_slope) / determinant,
        );
        // A long step may overshoot.
        let length = steps.0.hypot(steps.1);
        let part = if length > 1.0 { 1.0 / length } else { 1.0 };
        slope -= part * steps.0;
        shift -= part * steps.1;
        if length < 1e-9 {
            break;
        }
    }
    if slope < 0.0 {
        // More confidence with less right: no confidence tells anything, and all of them mean the same.
        let right = judged.iter().filter(|one| one.right).count() as f64 / judged.len() as f64;
        return vec![(0.0, round(right)), (1.0, round(right))];
    }
    let at = |hundredth: u32| f64::from(hundredth) / 100.0;
    (0..=100).map(|hundredth| (at(hundredth), round(sigmoid(slope * logit(at(hundredth)) + shift)))).collect()
}

/// Questions that are counted together. Half a right and half a wrong one more are counted (Jeffreys' prior), so that no
/// group says 0 or 1.
#[derive(Clone, Copy)]
struct Group {
    questions: f64,
    stated: f64,
    right: f64,
    weight: f64,
}

impl Group {
    fn share(&self) -> f64 {
        self.right / self.weight
    }

    fn with(self, other: Self) -> Self {
        Self {
            questions: self.questions + other.questions,
            stated: self.stated + other.stated,
            right: self.right + other.right,
            weight: self.weight + other.weight,
        }
    }
}

/// The share of right ones among questions of like confidence, where a group whose share is not above that of the one before
/// is pooled with it.
fn isotonic(judged: &[Judged]) -> Vec<(f64, f64)> {
    let mut sorted: Vec<&Judged> = judged.iter().collect();
    sorted.sort_by(|a, b| a.confidence.total_cmp(&b.confidence));
    let mut pooled: Vec<Group> = Vec::new();
    let mut rest = sorted.as_slice();
    while let Some(last) = rest.get(GROUP - 1).or(rest.last()) {
        // Equal ones are not told apart, and what is left over is no group.
        let mut end = rest.partition_point(|one| one.confidence <= last.confidence);
        if rest.len() - end < GROUP {
            end = rest.len();
        }
        let (group, others) = rest.split_at(end);
        rest = others;
        let mut group = Group {
            questions: group.len() as f64,
            stated: group.iter().map(|one| one.confidence).sum(),
            right: 0.5 + group.iter().filter(|one| one.right).count() as f64,
            weight: 1.0 + group.len() as f64,
        };
        while let Some(before) = pooled.pop_if(|before| before.share() >= group.share()) {
            group = before.with(group);
        }
        pooled.push(group);
    }
    let mut points: Vec<(f64, f64)> =
        pooled.iter().map(|group| (round(group.stated / group.questions), round(group.share()))).collect();
    points.dedup_by(|after, before| after.0 <= before.0);
    points
}

/// As an answer's confidence is rounded.
fn round(p: f64) -> f64 {
    (p * 10_000.0).round() / 10_000.0
}

fn brier(confidences: &[f64], judged: &[Judged]) -> f64 {
    let squares = confidences.iter().zip(judged).map(|(p, one)| (p - f64::from(u8::from(one.right))).powi(2));
    squares.sum::<f64>() / judged.len().max(1) as f64
}

fn reliability(confidences: &[f64], judged: &[Judged]) -> Reliability {
    let mut tenths = [Tenth::default(); 10];
    for (confidence, one) in confidences.iter().zip(judged) {
        let tenth = &mut tenths[((confidence * 10.0) as usize).min(9)];
        tenth.questions += 1;
        tenth.stated += confidence;
        tenth.right += f64::from(u8::from(one.right));
    }
    let off: f64 = tenths.iter().map(|tenth| (tenth.stated - tenth.right).abs()).sum();
    for tenth in tenths.iter_mut().filter(|tenth| tenth.questions > 0) {
        tenth.stated /= tenth.questions as f64;
        tenth.right /= tenth.questions as f64;
    }
    let calibration_error = off / judged.len().max(1) as f64;
    Reliability { tenths, calibration_error, auroc: auroc(confidences, judged), brier: brier(confidences, judged) }
}

/// How often a random right one has more confidence than a random wrong one; of equal ones, half the times.
fn auroc(confidences: &[f64], judged: &[Judged]) -> f64 {
    let mut sorted: Vec<(f64, bool)> = confidences.iter().zip(judged).map(|(p, one)| (*p, one.right)).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut wrong_below, mut above, mut all_right) = (0.0, 0.0, 0.0);
    for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
        let right = equal.iter().filter(|(_, right)| *right).count() as f64;
        let wrong = equal.len() as f64 - right;
        above += right * (wrong_below + wrong / 2.0);
        wrong_below += wrong;
        all_right += right;
    }
    if all_right * wrong_below > 0.0 { above / (all_right * wrong_below) } else { 0.5 }
}

fn triggering(from: f64, confidences: &[f64], judged: &[Judged]) -> Triggering {
    let answers = confidences.iter().zip(judged).filter(|(p, one)| one.found && **p >= from);
    let (answers, right) =
        answers.fold((0_usize, 0_usize), |(n, right), (_, one)| (n + 1, right + usize::from(one.right)));
    let answerable = judged.iter().filter(|one| one.answerable).count();
    let share = |part: usize, of: usize| if of == 0 { 0.0 } else { part as f64 / of as f64 };
    Triggering {
        from,
        answered: share(answers, judged.len()),
        precision: share(right, answers),
        recall: share(right, answerable),
        f1: share(2 * right, answers + answerable),
    }
}

/// Where there may be a threshold: between two confidences that follow each other, so that what is just above one is not
/// left to rounding; lowest first.
fn thresholds(confidences: &[f64], judged: &[Judged]) -> Vec<f64> {
    let mut all: Vec<f64> = confidences.iter().zip(judged).filter(|(_, one)| one.found).map(|(p, _)| *p).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    let between = all.windows(2).map(|two| round(f64::midpoint(two[0], two[1])).max(two[0] + 1e-4).min(two[1]));
    std::iter::once(0.0).chain(between).map(round).collect()
}

fn best_f1(confidences: &[f64], judged: &[Judged]) -> Triggering {
    let all = thresholds(confidences, judged).into_iter().map(|from| triggering(from, confidences, judged));
    // Of equal ones the lowest, which answers most.
    all.reduce(|best, other| if other.f1 > best.f1 { other } else { best }).expect("0 is a threshold")
}

fn lowest_with(precision: f64, confidences: &[f64], judged: &[Judged]) -> Option<Triggering> {
    let mut all = thresholds(confidences, judged).into_iter().map(|from| triggering(from, confidences, judged));
    all.find(|at| at.precision >= precision)
}

#[cfg(test)]
#[path = "recalibration_tests.rs"]
mod tests;
