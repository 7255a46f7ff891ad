//! A view's store as somebody keeps it, held against the same view derived anew. It is looked at and left as it is.

use std::path::{Path, PathBuf};

use rocksdb::DB;
use serde::Serialize;
use solyx_schemas::told::{FieldDifference, Told};

use super::layout::Layout;
use super::{StoreError, ViewPosition, differences, open_read_only, position_of, stored_key};
use crate::fold::{Entry, Fold, FoldError, ToldRow};

/// The longest value that a difference prints, in characters.
const SHOWN_MAX: usize = 300;

/// A store as it stood when it was opened, whoever writes it meanwhile.
pub struct KeptStore {
    layout: Layout,
    generation: u64,
    db: DB,
    position: ViewPosition,
}

/// A state of an earlier epoch, which views of the past begin with.
pub struct KeptCheckpoint {
    layout: Layout,
    generation: u64,
    next_epoch: i64,
    path: PathBuf,
}

/// Where a kept view and the same view derived anew part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowDifference {
    /// Table and key of the row.
    pub row: String,
    /// The field, or what of the row differs.
    pub field: String,
    /// As it is kept.
    pub kept: String,
    /// As it was derived.
    pub derived: String,
    /// Of a checkpoint, the first epoch that it does not hold.
    pub checkpoint: Option<i64>,
}

impl RowDifference {
    /// A difference of two texts.
    pub fn new(row: impl Into<String>, field: impl Into<String>, kept: impl ToString, derived: impl ToString) -> Self {
        let (kept, derived) = (kept.to_string(), derived.to_string());
        let same = kept.chars().zip(derived.chars()).take_while(|(one, other)| one == other).count();
        // What is told ends after the point at which they part.
        let from = same.saturating_sub(SHOWN_MAX / 2);
        let shown = |text: String| {
            let rest: String = text.chars().skip(from).take(SHOWN_MAX).collect();
            if from == 0 { rest } else { format!("…{rest}") }
        };
        let (kept, derived) = (shown(kept), shown(derived));
        Self { row: row.into(), field: field.into(), kept, derived, checkpoint: None }
    }

    /// The same of the checkpoint that ends before this epoch.
    pub fn of_checkpoint(self, next_epoch: i64) -> Self {
        Self { checkpoint: Some(next_epoch), ..self }
    }

    /// Of a row's canonical entries.
    fn of(fold: &dyn Fold, key: &[u8], kept: Option<&[u8]>, derived: Option<&[u8]>) -> Self {
        let told = |value: &[u8]| fold.told(key, value);
        let as_is = |value: Option<&[u8]>| value.map_or("none".to_owned(), hex);
        let row = [derived, kept].into_iter().flatten().find_map(|value| told(value).ok()).map_or(hex(key), named);
        match (kept.map(told).transpose(), derived.map(told).transpose()) {
            (Ok(Some(was)), Ok(Some(is))) => match was.row.first_difference(&is.row) {
                Some(FieldDifference { field, one, other }) => {
                    Self::new(row, if field.is_empty() { "row".to_owned() } else { field }, one, other)
                }
                None => Self::new(row, "bytes", as_is(kept), as_is(derived)),
            },
            (Ok(was), Ok(is)) => {
                let said = |told: Option<ToldRow>| told.map_or("none".to_owned(), |told| told.row.to_string());
                Self::new(row, "row", said(was), said(is))
            }
            (Err(FoldError { detail, .. }), _) => Self::new(row, "readability", detail, as_is(derived)),
            (_, Err(_)) => Self::new(row, "bytes", as_is(kept), as_is(derived)),
        }
    }
}

impl std::fmt::Display for RowDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { row, field, kept, derived, checkpoint } = self;
        if let Some(next_epoch) = checkpoint {
            write!(f, "checkpoint before epoch {next_epoch}, ")?;
        }
        write!(f, "{row}, {field}: kept {kept}, derived {derived}")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn named(told: ToldRow) -> String {
    let key = match told.key {
        Told::List(parts) if parts.iter().any(|part| !matches!(part, Told::Byte(_))) => {
            parts.iter().map(ToString::to_string).collect::<Vec<_>>().join("/")
        }
        key => key.to_string(),
    };
    format!("{}/{key}", told.table)
}

impl KeptStore {
    /// The store in use in a view's directory, if one is there.
    pub fn open(directory: &Path) -> Result<Option<Self>, StoreError> {
        let layout = Layout::new(directory);
        let Some(mut generation) = layout.current()? else { return Ok(None) };
        loop {
            let opened = open_read_only(&layout, &layout.generation(generation));
            match opened.and_then(|db| Ok((position_of(&db, &layout)?, db))) {
                Ok((position, db)) => return Ok(Some(Self { layout, generation, db, position })),
                // One that was built beside it may have taken its place meanwhile.
                Err(error) => match layout.current()? {
                    Some(now) if now != generation => generation = now,
                    _ => return Err(error),
                },
            }
        }
    }

    /// How far it has come.
    pub fn position(&self) -> &ViewPosition {
        &self.position
    }

    /// Its checkpoints, the earliest first.
    pub fn checkpoints(&self) -> Result<Vec<KeptCheckpoint>, StoreError> {
        let Self { layout, generation, .. } = self;
        let found = layout.checkpoints(*generation)?.into_iter();
        let kept =
            |(next_epoch, path)| KeptCheckpoint { layout: layout.clone(), generation: *generation, next_epoch, path };
        Ok(found.map(kept).collect())
    }

    /// The first row that it holds otherwise than a fold that stands where it stands and has these entries.
    pub fn first_difference(
        &self,
        fold: &dyn Fold,
        derived: &ViewPosition,
        entries: Vec<Entry>,
    ) -> Result<Option<RowDifference>, StoreError> {
        if self.position.chain_head != derived.chain_head {
            let (kept, derived) = (self.position.chain_head, derived.chain_head);
            return Ok(Some(RowDifference::new("position", "chain_head", kept, derived)));
        }
        let failed = |e: rocksdb::Error| self.layout.storage("read", e);
        let Some((key, derived)) = differences(&self.db, entries).next().transpose().map_err(failed)? else {
            return Ok(None);
        };
        let kept = self.db.get(stored_key(&key)).map_err(failed)?;
        Ok(Some(RowDifference::of(fold, &key, kept.as_deref(), derived.as_deref())))
    }
}

impl KeptCheckpoint {
    /// The first epoch that it does not hold, as its name says.
    pub fn next_epoch(&self) -> i64 {
        self.next_epoch
    }

    /// Opens it; none when it has gone meanwhile, as it does with a store that another takes the place of.
    pub fn open(&self) -> Result<Option<KeptStore>, StoreError> {
        let Self { layout, generation, path, .. } = self;
        let opened = open_read_only(layout, path);
        match opened.and_then(|db| Ok((position_of(&db, layout)?, db))) {
            Ok((position, db)) => Ok(Some(KeptStore { layout: layout.clone(), generation: *generation, db, position })),
            Err(error) => match layout.current()? {
                Some(now) if now == *generation => Err(error),
                _ => Ok(None),
            },
        }
    }
}
