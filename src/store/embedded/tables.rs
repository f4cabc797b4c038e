//! The tables of the index, and the changes that keep them consistent with each other.
//!
//! Invariant: `blobs` counts, for each file, the segments that name it in `bodies` and `parts`; a
//! file whose count reaches zero is handed to the caller for deletion after the commit.

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction,
};
use s3s::s3_error;

use super::blobs::Draft;
use super::fault::Fault;
use super::records::{
    BlobId, Layout, ObjectPath, ObjectRecord, PartRecord, Segment, UploadRecord, decode, encode,
};

/// Bucket name -> seconds since 1970 when it was created.
const BUCKETS: TableDefinition<'_, &str, u64> = TableDefinition::new("buckets");
/// Object path -> [`ObjectRecord`]. Apart from the bodies, so that a listing reads little.
const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");
/// Object path -> [`Layout`].
const BODIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bodies");
/// Object path and upload id -> [`UploadRecord`]; ids of one object sort by their age.
const UPLOADS: TableDefinition<'_, (&[u8], &str), &[u8]> = TableDefinition::new("uploads");
/// Upload id and part number -> [`PartRecord`] and [`Layout`].
const PARTS: TableDefinition<'_, PartKey, PartValue> = TableDefinition::new("parts");
/// File -> number of segments that name it.
const BLOBS: TableDefinition<'_, u128, u64> = TableDefinition::new("blobs");

pub(super) type Buckets = ReadOnlyTable<&'static str, u64>;
pub(super) type Objects = ReadOnlyTable<&'static [u8], &'static [u8]>;
pub(super) type Uploads = ReadOnlyTable<(&'static [u8], &'static str), &'static [u8]>;
pub(super) type Parts = ReadOnlyTable<PartKey, PartValue>;

type PartKey = (&'static str, u16);
type PartValue = (&'static [u8], &'static [u8]);

/// A consistent view of the index.
pub(super) struct View(ReadTransaction);

impl View {
    pub(super) fn new(transaction: ReadTransaction) -> Self {
        Self(transaction)
    }

    pub(super) fn buckets(&self) -> Result<Buckets, Fault> {
        Ok(self.0.open_table(BUCKETS)?)
    }

    pub(super) fn objects(&self) -> Result<Objects, Fault> {
        Ok(self.0.open_table(OBJECTS)?)
    }

    pub(super) fn uploads(&self) -> Result<Uploads, Fault> {
        Ok(self.0.open_table(UPLOADS)?)
    }

    pub(super) fn parts(&self) -> Result<Parts, Fault> {
        Ok(self.0.open_table(PARTS)?)
    }

    pub(super) fn require_bucket(&self, bucket: &str) -> Result<(), Fault> {
        require_bucket(&self.buckets()?, bucket)
    }

    /// The object, or `NoSuchKey`, or `NoSuchBucket`.
    pub(super) fn require_object(&self, bucket: &str, key: &str) -> Result<ObjectRecord, Fault> {
        let path = ObjectPath::new(bucket, key);
        match self.objects()?.get(path.as_bytes())? {
            Some(record) => decode(record.value()),
            None => {
                self.require_bucket(bucket)?;
                Err(s3_error!(NoSuchKey, "The specified key does not exist.").into())
            }
        }
    }

    pub(super) fn layout(&self, path: &ObjectPath) -> Result<Layout, Fault> {
        let bodies = self.0.open_table(BODIES)?;
        let layout = bodies
            .get(path.as_bytes())?
            .ok_or(Fault::Corrupt("object without body"))?;
        Layout::decode(layout.value())
    }

    pub(super) fn require_upload(
        &self,
        path: &ObjectPath,
        upload_id: &str,
    ) -> Result<UploadRecord, Fault> {
        let uploads = self.uploads()?;
        let record = uploads
            .get((path.as_bytes(), upload_id))?
            .ok_or_else(no_such_upload)?;
        decode(record.value())
    }

    pub(super) fn names(&self, blob: BlobId) -> Result<bool, Fault> {
        Ok(self.0.open_table(BLOBS)?.get(blob)?.is_some())
    }
}

/// The tables while they are changed, by one transaction for a whole batch of requests.
///
/// A request checks first and changes afterwards: one that is refused shares its transaction with
/// others, so it must have changed nothing.
pub(super) struct Tables<'t> {
    buckets: Table<'t, &'static str, u64>,
    objects: Table<'t, &'static [u8], &'static [u8]>,
    bodies: Table<'t, &'static [u8], &'static [u8]>,
    uploads: Table<'t, (&'static [u8], &'static str), &'static [u8]>,
    parts: Table<'t, PartKey, PartValue>,
    blobs: Table<'t, u128, u64>,
    effects: &'t mut Effects,
}

/// The effect of a commit on files: new ones to keep, unnamed ones to delete.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) adopted: Vec<Draft>,
    pub(super) dead: Vec<BlobId>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(
        transaction: &'t WriteTransaction,
        effects: &'t mut Effects,
    ) -> Result<Self, Fault> {
        Ok(Self {
            buckets: transaction.open_table(BUCKETS)?,
            objects: transaction.open_table(OBJECTS)?,
            bodies: transaction.open_table(BODIES)?,
            uploads: transaction.open_table(UPLOADS)?,
            parts: transaction.open_table(PARTS)?,
            blobs: transaction.open_table(BLOBS)?,
            effects,
        })
    }

    pub(super) fn has_bucket(&self, bucket: &str) -> Result<bool, Fault> {
        Ok(self.buckets.get(bucket)?.is_some())
    }

    pub(super) fn require_bucket(&self, bucket: &str) -> Result<(), Fault> {
        require_bucket(&self.buckets, bucket)
    }

    pub(super) fn insert_bucket(&mut self, bucket: &str, created: u64) -> Result<(), Fault> {
        self.buckets.insert(bucket, created)?;
        Ok(())
    }

    pub(super) fn object(&self, path: &ObjectPath) -> Result<Option<ObjectRecord>, Fault> {
        let record = self.objects.get(path.as_bytes())?;
        record.map(|record| decode(record.value())).transpose()
    }

    pub(super) fn layout(&self, path: &ObjectPath) -> Result<Option<Layout>, Fault> {
        let layout = self.bodies.get(path.as_bytes())?;
        layout
            .map(|layout| Layout::decode(layout.value()))
            .transpose()
    }

    /// Takes over a file that a layout is about to name.
    pub(super) fn adopt(&mut self, draft: Option<Draft>) {
        self.effects.adopted.extend(draft);
    }

    /// Creates or replaces an object.
    pub(super) fn put_object(
        &mut self,
        path: &ObjectPath,
        record: &ObjectRecord,
        layout: &Layout,
    ) -> Result<(), Fault> {
        // Acquire before release: an object that is copied onto itself must not lose its body.
        self.acquire(&layout.segments)?;
        self.remove_object(path)?;
        self.objects
            .insert(path.as_bytes(), encode(record).as_slice())?;
        self.bodies
            .insert(path.as_bytes(), layout.encode().as_slice())?;
        Ok(())
    }

    /// Changes what is known of an object whose body stays.
    pub(super) fn replace_record(
        &mut self,
        path: &ObjectPath,
        record: &ObjectRecord,
    ) -> Result<(), Fault> {
        self.objects
            .insert(path.as_bytes(), encode(record).as_slice())?;
        Ok(())
    }

    pub(super) fn remove_object(&mut self, path: &ObjectPath) -> Result<(), Fault> {
        let removed = self
            .bodies
            .remove(path.as_bytes())?
            .map(|old| Layout::decode(old.value()));
        if let Some(layout) = removed.transpose()? {
            self.objects.remove(path.as_bytes())?;
            self.release(&layout.segments)?;
        }
        Ok(())
    }

    pub(super) fn upload(
        &self,
        path: &ObjectPath,
        upload_id: &str,
    ) -> Result<Option<UploadRecord>, Fault> {
        let record = self.uploads.get((path.as_bytes(), upload_id))?;
        record.map(|record| decode(record.value())).transpose()
    }

    pub(super) fn require_upload(
        &self,
        path: &ObjectPath,
        upload_id: &str,
    ) -> Result<UploadRecord, Fault> {
        self.upload(path, upload_id)?.ok_or_else(no_such_upload)
    }

    pub(super) fn put_upload(
        &mut self,
        path: &ObjectPath,
        upload_id: &str,
        record: &UploadRecord,
    ) -> Result<(), Fault> {
        self.uploads
            .insert((path.as_bytes(), upload_id), encode(record).as_slice())?;
        Ok(())
    }

    /// Creates or replaces a part.
    pub(super) fn put_part(
        &mut self,
        upload_id: &str,
        number: u16,
        record: &PartRecord,
        layout: &Layout,
    ) -> Result<(), Fault> {
        self.acquire(&layout.segments)?;
        let value = (encode(record), layout.encode());
        let key = (upload_id, number);
        let old = self
            .parts
            .insert(key, (value.0.as_slice(), value.1.as_slice()))?;
        if let Some(old) = old.map(|old| Layout::decode(old.value().1)).transpose()? {
            self.release(&old.segments)?;
        }
        Ok(())
    }

    pub(super) fn part(
        &self,
        upload_id: &str,
        number: u16,
    ) -> Result<Option<(PartRecord, Layout)>, Fault> {
        let Some(part) = self.parts.get((upload_id, number))? else {
            return Ok(None);
        };
        let (record, layout) = part.value();
        Ok(Some((decode(record)?, Layout::decode(layout)?)))
    }

    /// Forgets an upload and all its parts.
    pub(super) fn remove_upload(
        &mut self,
        path: &ObjectPath,
        upload_id: &str,
    ) -> Result<(), Fault> {
        self.uploads.remove((path.as_bytes(), upload_id))?;
        let mut segments = Vec::new();
        let parts = (upload_id, 0)..=(upload_id, u16::MAX);
        for part in self.parts.extract_from_if(parts, |_, _| true)? {
            segments.extend(Layout::decode(part?.1.value().1)?.segments);
        }
        self.release(&segments)
    }

    fn acquire(&mut self, segments: &[Segment]) -> Result<(), Fault> {
        for blob in segments.iter().filter_map(Segment::blob) {
            let count = self.blobs.get(blob)?.map_or(0, |count| count.value());
            self.blobs.insert(blob, count + 1)?;
        }
        Ok(())
    }

    fn release(&mut self, segments: &[Segment]) -> Result<(), Fault> {
        for blob in segments.iter().filter_map(Segment::blob) {
            let count = self.blobs.get(blob)?.map_or(0, |count| count.value());
            if count > 1 {
                self.blobs.insert(blob, count - 1)?;
            } else {
                self.blobs.remove(blob)?;
                self.effects.dead.push(blob);
            }
        }
        Ok(())
    }
}

fn require_bucket(
    buckets: &impl ReadableTable<&'static str, u64>,
    bucket: &str,
) -> Result<(), Fault> {
    match buckets.get(bucket)? {
        Some(_) => Ok(()),
        None => Err(s3_error!(NoSuchBucket, "The specified bucket does not exist").into()),
    }
}

pub(super) fn no_such_upload() -> Fault {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may \
         have been aborted or completed."
    )
    .into()
}
