//! The classifiers that serve side by side.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::classifier::{Classifier, Label};
use super::load::LoadError;

/// Classifiers whose labels are numbered through: the first one's, then the second one's, and so on. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Models(Arc<[Classifier]>);

impl Models {
    /// Puts classifiers side by side.
    ///
    /// # Errors
    /// Two of them have a head of one name, so that a policy could not tell them apart.
    pub fn new(each: Vec<Classifier>) -> Result<Self, LoadError> {
        let mut taken = BTreeSet::new();
        for classifier in &each {
            let heads: BTreeSet<&str> = classifier.labels().iter().map(|label| label.head.as_str()).collect();
            if let Some(head) = heads.iter().find(|head| taken.contains(*head)) {
                return Err(LoadError::SameHead { head: (*head).to_owned() });
            }
            taken.extend(heads);
        }
        Ok(Self(each.into()))
    }

    /// Each of them.
    pub fn each(&self) -> &[Classifier] {
        &self.0
    }

    /// All labels, by number.
    pub fn labels(&self) -> impl Iterator<Item = &Label> {
        self.0.iter().flat_map(Classifier::labels)
    }

    /// Which classifier, by its place, has the label of this number, and the number of that classifier's first label.
    pub fn of_label(&self, label: usize) -> Option<(usize, usize)> {
        let mut first = 0;
        for (at, classifier) in self.0.iter().enumerate() {
            if label < first + classifier.labels().len() {
                return Some((at, first));
            }
            first += classifier.labels().len();
        }
        None
    }
}
