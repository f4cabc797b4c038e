//! LIST, NLST, MLSD and STAT of a name: what is listed, and how.

use crate::config::Times;
use crate::ftp::engine::request::{
    DataConnectionOffer, ListRequest, StorageOutcome, StorageRequest,
};
use crate::ftp::glob::is_pattern;
use crate::ftp::listformat::Format;
use crate::ftp::reply::Reply;
use crate::ftp::session::edge::{Edge, Step};
use crate::ftp::session::exchange::Exchange;

impl Edge {
    pub(super) async fn list(&mut self, format: Format, argument: &str) -> Step {
        let mut request = match self.list_request(format, argument) {
            Ok(request) => request,
            Err(reply) => return self.send(reply).await,
        };
        let verb = match format {
            Format::Long => "LIST",
            Format::Names => "NLST",
            Format::Facts(_) => "MLSD",
        };
        let exchange = Exchange {
            verb,
            opening: format!("Listing of {}", request.path),
            path: request.path.clone(),
            stall: self.frontend.download_stall,
        };
        let (offer, ticket) = DataConnectionOffer::new();
        request.offer = Some(offer);
        self.exchange(exchange, StorageRequest::List(request), ticket)
            .await
    }

    /// `STAT path`: the listing comes as a reply, without a data connection.
    pub(super) async fn list_in_reply(&mut self, argument: &str) -> Step {
        let request = match self.list_request(Format::Long, argument) {
            Ok(request) => request,
            Err(reply) => return self.send(reply).await,
        };
        let path = request.path.clone();
        let reply = match self.execute(StorageRequest::List(request)).await? {
            Ok(StorageOutcome::Listed {
                entries,
                text,
                is_cut,
                ..
            }) => {
                let lines = text.replace("\r\n", "\n");
                let end = match is_cut {
                    false => "End of status".to_owned(),
                    true => format!("Cut after {entries} entries, LIST and MLSD show all"),
                };
                Reply::new(213, format!("Status of {path}\n{lines}{end}"))
            }
            Ok(_) => return Err(self.out_of_step("STAT", 213)),
            Err(error) => self.refusal("STAT", &path, &error, None),
        };
        self.send(reply).await
    }

    /// A listing for a reply; the last component of the argument may be a pattern.
    fn list_request(&self, format: Format, argument: &str) -> Result<ListRequest, Reply> {
        let (directory, pattern) = match argument.rsplit_once('/') {
            _ if matches!(format, Format::Facts(_)) => (argument, None),
            Some((directory, name)) if is_pattern(name) => {
                (&argument[..directory.len() + 1], Some(name.to_owned()))
            }
            None if is_pattern(argument) => ("", Some(argument.to_owned())),
            _ => (argument, None),
        };
        let path = self.resolve(directory)?;
        // names of an NLST must be good as arguments where the client stands
        let directory = match directory {
            "" | "." | "./" => String::new(),
            directory if directory.ends_with('/') => directory.to_owned(),
            directory => format!("{directory}/"),
        };
        Ok(ListRequest {
            path,
            format,
            pattern,
            directory,
            charset: self.encoding.outgoing(),
            set_times: self.frontend.listing_times == Times::Metadata && format.has_times(),
            offer: None,
        })
    }
}
