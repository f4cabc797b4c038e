//! The direct client: the SDK without a gateway, which is the limit that the gateway is held against.
//!
//! Multipart uploads with the same parts and the same number of requests in flight, ranged downloads ahead in parallel,
//! bodies from one static buffer and into nothing. It runs in a process of its own, so that its CPU time is read in the
//! same way as the gateway's.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation,
};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use cosgate::store::parts::PartPlan;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Where the store is.
#[derive(Debug, Clone, Args)]
pub struct Store {
    /// URL of the store.
    #[arg(long = "endpoint")]
    pub endpoint: String,
    #[arg(long = "the-bucket")]
    pub bucket: String,
    #[arg(long = "id")]
    pub access_key: String,
    #[arg(long = "secret")]
    pub secret_key: String,
}

/// The way the direct client works.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Requests in flight of one transfer, of the gateway and of the direct client.
    #[arg(long, default_value_t = 4)]
    pub concurrency: usize,
    /// Bytes of the first parts, and of the ranges of a download.
    #[arg(long, default_value = "8MiB")]
    pub part_size: bytesize::ByteSize,
    /// Checksum that the direct client sends with each part and verifies on the way back.
    #[arg(long, value_enum, default_value_t = Checksum::Crc64nvme)]
    pub direct_checksum: Checksum,
    /// Let the direct client sign its requests without a SHA-256 of the body.
    #[arg(long)]
    pub direct_unsigned: bool,
}

/// The integrity checks of the direct client; with none, the SDK still signs a SHA-256 of each body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Checksum {
    None,
    Crc32,
    Crc64nvme,
}

#[derive(Clone)]
struct Direct {
    client: Client,
    bucket: String,
    options: Options,
    /// As long as the largest part.
    content: Bytes,
    plan: PartPlan,
}

/// The largest file that the plan has room for: the gateway's default, so that the parts are the gateway's.
const MAX_FILE: u64 = 200 << 30;

/// Requests in flight while a real store is filled with small objects.
const FILL_WIDTH: usize = 32;

/// Obeys one command per line of standard input, and says `ok NUMBER` or `failed REASON` for each:
///
/// - `put KEY SIZE`, `get KEY SIZE`, `delete KEY`
/// - `list PREFIX`: the number is that of the entries
/// - `fill PREFIX COUNT SIZE`, `clear PREFIX`
pub fn run(store: &Store, options: Options) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let plan = PartPlan::new(options.part_size.as_u64(), MAX_FILE, &(1..=5 << 30))
        .map_err(io::Error::other)?;
    let content = crate::pattern(usize::try_from(plan.largest()).map_err(io::Error::other)?);
    let direct = Direct {
        client: client(store, options.direct_checksum),
        bucket: store.bucket.clone(),
        options,
        content: content.into(),
        plan,
    };
    println!("ready");
    for line in io::stdin().lock().lines() {
        match runtime.block_on(direct.obey(&line?)) {
            Ok(number) => println!("ok {number}"),
            Err(error) => println!("failed {error:?}"),
        }
        io::stdout().flush()?;
    }
    runtime.shutdown_background();
    Ok(())
}

fn client(store: &Store, checksum: Checksum) -> Client {
    let (request, response) = match checksum {
        Checksum::None => (
            RequestChecksumCalculation::WhenRequired,
            ResponseChecksumValidation::WhenRequired,
        ),
        Checksum::Crc32 | Checksum::Crc64nvme => (
            RequestChecksumCalculation::WhenSupported,
            ResponseChecksumValidation::WhenSupported,
        ),
    };
    let keys = Credentials::new(
        &store.access_key,
        &store.secret_key,
        None,
        None,
        "benchmark",
    );
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(&store.endpoint)
        .region(Region::new("us-east-1"))
        .force_path_style(true)
        .request_checksum_calculation(request)
        .response_checksum_validation(response)
        .credentials_provider(keys);
    Client::from_conf(config.build())
}

impl Direct {
    async fn obey(&self, line: &str) -> Result<u64> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["put", key, size] => self.put(key, size.parse()?).await,
            ["get", key, size] => self.get(key, size.parse()?).await,
            ["list", prefix] => self.list(prefix).await,
            ["fill", prefix, count, size] => self.fill(prefix, count.parse()?, size.parse()?).await,
            ["clear", prefix] => self.clear(prefix).await,
            ["delete", key] => {
                let request = self.client.delete_object().bucket(&self.bucket).key(key);
                request.send().await?;
                Ok(1)
            }
            _ => Err("what?".into()),
        }
    }

    fn checksum(&self) -> Option<ChecksumAlgorithm> {
        match self.options.direct_checksum {
            Checksum::None => None,
            Checksum::Crc32 => Some(ChecksumAlgorithm::Crc32),
            Checksum::Crc64nvme => Some(ChecksumAlgorithm::Crc64Nvme),
        }
    }

    async fn put(&self, key: &str, size: u64) -> Result<u64> {
        if size < self.plan.smallest() {
            let body = self.content.slice(..usize::try_from(size)?);
            let request = self.client.put_object().bucket(&self.bucket).key(key);
            let request = request.set_checksum_algorithm(self.checksum());
            let mut request = request.body(ByteStream::from(body)).customize();
            if self.options.direct_unsigned {
                request = request.disable_payload_signing();
            }
            request.send().await?;
            return Ok(size);
        }
        let request = self.client.create_multipart_upload();
        let request = request.set_checksum_algorithm(self.checksum());
        let begun = request.bucket(&self.bucket).key(key).send().await?;
        let id: Arc<str> = begun.upload_id.ok_or("no upload id")?.into();

        let (mut running, mut completed, mut sent) = (JoinSet::new(), Vec::new(), 0);
        for number in 0.. {
            if sent == size {
                break;
            }
            while running.len() >= self.options.concurrency {
                completed.extend(running.join_next().await.transpose()?.transpose()?);
            }
            let bytes = self.plan.next_bytes(number, sent).min(size - sent);
            let part = self
                .clone()
                .put_part(key.to_owned(), Arc::clone(&id), number + 1, bytes);
            running.spawn(part);
            sent += bytes;
        }
        while let Some(part) = running.join_next().await {
            completed.push(part??);
        }
        completed.sort_unstable_by_key(CompletedPart::part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(completed));
        let request = self.client.complete_multipart_upload().bucket(&self.bucket);
        let request = request
            .key(key)
            .upload_id(&*id)
            .multipart_upload(parts.build());
        request.send().await?;
        Ok(size)
    }

    async fn put_part(
        self,
        key: String,
        id: Arc<str>,
        number: u64,
        bytes: u64,
    ) -> Result<CompletedPart> {
        let number = i32::try_from(number)?;
        let body = self.content.slice(..usize::try_from(bytes)?);
        let request = self.client.upload_part().bucket(&self.bucket).key(key);
        let request = request.upload_id(&*id).part_number(number);
        let request = request.set_checksum_algorithm(self.checksum());
        let mut request = request.body(ByteStream::from(body)).customize();
        if self.options.direct_unsigned {
            request = request.disable_payload_signing();
        }
        let part = request.send().await?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(part.e_tag)
            .set_checksum_crc32(part.checksum_crc32)
            .set_checksum_crc64_nvme(part.checksum_crc64_nvme)
            .build())
    }

    async fn get(&self, key: &str, size: u64) -> Result<u64> {
        let range = self.options.part_size.as_u64();
        let (mut running, mut received, mut position) = (JoinSet::new(), 0, 0);
        while position < size {
            while running.len() >= self.options.concurrency {
                received += running
                    .join_next()
                    .await
                    .transpose()?
                    .transpose()?
                    .unwrap_or(0);
            }
            let end = (position + range).min(size);
            let asked = (size > range).then(|| format!("bytes={position}-{}", end - 1));
            running.spawn(self.clone().get_range(key.to_owned(), asked));
            position = end;
        }
        while let Some(bytes) = running.join_next().await {
            received += bytes??;
        }
        if received == size {
            Ok(received)
        } else {
            Err(format!("{received} bytes of {size}").into())
        }
    }

    async fn get_range(self, key: String, range: Option<String>) -> Result<u64> {
        let request = self.client.get_object().bucket(&self.bucket).key(key);
        let mut body = request.set_range(range).send().await?.body;
        let mut received = 0;
        while let Some(bytes) = body.next().await {
            received += bytes?.len() as u64;
        }
        Ok(received)
    }

    async fn list(&self, prefix: &str) -> Result<u64> {
        let (mut entries, mut token) = (0, None);
        loop {
            let request = self.client.list_objects_v2().bucket(&self.bucket);
            let request = request.prefix(prefix).delimiter("/");
            let page = request.set_continuation_token(token).send().await?;
            entries += page.contents().len() as u64;
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(entries);
            }
        }
    }

    async fn fill(&self, prefix: &str, count: u64, size: u64) -> Result<u64> {
        let places = Arc::new(Semaphore::new(FILL_WIDTH));
        let mut running = JoinSet::new();
        for number in 0..count {
            let place = Arc::clone(&places).acquire_owned().await?;
            let (direct, key) = (self.clone(), crate::small_key(prefix, number));
            running.spawn(async move {
                let done = direct.put(&key, size).await;
                drop(place);
                done
            });
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
        Ok(count)
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        let mut removed = 0;
        loop {
            let request = self.client.list_objects_v2().bucket(&self.bucket);
            let page = request.prefix(prefix).send().await?;
            let keys = page
                .contents()
                .iter()
                .filter_map(|object| object.key.clone());
            let mut running = JoinSet::new();
            for key in keys {
                let request = self.client.delete_object().bucket(&self.bucket).key(key);
                running.spawn(request.send());
            }
            if running.is_empty() {
                return Ok(removed);
            }
            while let Some(done) = running.join_next().await {
                done??;
                removed += 1;
            }
        }
    }
}
