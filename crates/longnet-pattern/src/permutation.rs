//! Orders of things.

/// Each of the numbers below a length once, in some order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permutation(Box<[usize]>);

impl Permutation {
    /// The order in which things already are.
    pub fn identity(len: usize) -> Self {
        Self((0..len).collect())
    }

    /// From the numbers in order; `None` if they are not each number below their count once.
    pub fn new(order: Vec<usize>) -> Option<Self> {
        let mut seen = vec![false; order.len()];
        let once =
            |&x: &usize| (seen.get_mut(x)).is_some_and(|seen| !std::mem::replace(seen, true));
        order.iter().all(once).then(|| Self(order.into()))
    }

    /// From what is known to be one.
    pub(crate) fn known(order: Vec<usize>) -> Self {
        Self::new(order).expect("each number is there once")
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number at each place: as indices to gather by.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    /// The place of each number. Gathering by it undoes gathering by this one.
    pub fn inverse(&self) -> Self {
        let mut places = vec![0; self.len()];
        for (place, &number) in self.0.iter().enumerate() {
            places[number] = place;
        }
        Self(places.into())
    }

    /// Gathers: the item at a place is that of the number at the place.
    ///
    /// # Panics
    ///
    /// If `items` has another length.
    pub fn apply<T: Clone>(&self, items: &[T]) -> Vec<T> {
        let (len, items_len) = (self.len(), items.len());
        assert_eq!(
            items_len, len,
            "{items_len} items for a permutation of {len}"
        );
        self.0.iter().map(|&number| items[number].clone()).collect()
    }
}
