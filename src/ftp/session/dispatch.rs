//! From a line to its command, and from the command to the method that executes it.

use tracing::{Instrument, info_span};

use crate::auth::Right;
use crate::ftp::codec::Line;
use crate::ftp::command::{Command, SITE_HELP, verb};
use crate::ftp::listformat::Format;
use crate::ftp::reply::{Reply, quoted};
use crate::ftp::session::edge::{Close, Edge, GOODBYE, Step};
use crate::ftp::session::file_commands::{facts_reply, renamed_reply, size_reply, time_reply};
use crate::store::{StoreError, VirtualPath};

impl Edge {
    pub(super) async fn answer(&mut self, line: Line) -> Step {
        let text = match line {
            Line::Text(text) => self.encoding.text(text, &self.session.shown()),
            Line::Legacy(bytes) => match self.legacy(&bytes) {
                Ok(text) => text,
                Err(refusal) => return self.send(refusal).await,
            },
            Line::TooLong => return self.say(500, "The line is too long").await,
            Line::Malformed => return self.say(501, "CR and NUL are not allowed").await,
            Line::Flood => {
                return Err(Close::with(
                    421,
                    "The line never ends, closing the connection",
                ));
            }
            Line::End => return Err(Close::Silently),
        };
        let verb = verb(&text);
        self.session.begin(verb);
        let text = match verb {
            // these are no names of files, and are shown to nobody
            "USER" | "PASS" => text,
            _ => self.encoding.outgoing().unescape(&text).into_owned(),
        };
        let span = info_span!("command", session = self.session.id);
        match Command::parse(&text) {
            Ok(command) => self.execute_command(command).instrument(span).await,
            Err(reply) => self.send(reply).await,
        }
    }

    async fn execute_command(&mut self, command: Command) -> Step {
        let renaming = std::mem::take(&mut self.renaming);
        if !command.keeps_restart() {
            self.restart = 0;
            self.announced = None;
        }
        match command {
            Command::Quit => Err(Close::with(221, GOODBYE)),
            Command::Noop => self.say(200, "OK").await,
            Command::Help => self.say(214, "See RFC 959, 2389, 2428 and 3659").await,
            Command::Feat => self.send(self.features()).await,
            Command::Opts(option) => self.option(&option).await,
            Command::Syst => self.say(215, "UNIX Type: L8").await,
            Command::Type(kind) => self.set_type(kind).await,
            Command::Setting(reply) => self.send(reply).await,
            Command::Auth(mechanism) => self.auth(&mechanism).await,
            Command::Pbsz => self.pbsz().await,
            Command::Prot(level) => self.prot(&level).await,
            Command::Ccc => {
                self.say(534, "The control connection stays protected")
                    .await
            }
            Command::Allo(bytes) => {
                self.announced = bytes;
                self.say(200, "Noted").await
            }
            Command::Superfluous => self.say(202, "Not needed here").await,
            Command::User(name) => self.user(name).await,
            Command::Pass(password) => self.pass(password.0.into()).await,
            Command::Abor => {
                self.data = None;
                self.say(226, "There is no transfer to abort").await
            }
            _ if self.session.user().is_none() => {
                self.say(530, "Please log in with USER and PASS").await
            }
            Command::Rest(1..) if self.converts() => self.no_ascii("REST", 504).await,
            Command::Rest(offset) => {
                self.restart = offset;
                self.say(350, "The next transfer starts there").await
            }
            Command::Pasv => self.pasv().await,
            Command::Epsv(argument) => self.epsv(argument).await,
            Command::Port(address) => self.port(address).await,
            Command::Status => self.status().await,
            Command::Pwd => {
                self.send(Reply::new(257, quoted(self.working_directory.as_str())))
                    .await
            }
            Command::Cdup => {
                self.change_directory(Ok(self.working_directory.parent()))
                    .await
            }
            Command::Cwd(path) => self.change_directory(self.resolve(&path)).await,
            Command::Mkd(path) => {
                let created = |path: &VirtualPath, _| {
                    Reply::new(257, format!("{} created", quoted(path.as_str())))
                };
                self.on_path("MKD", &path, created).await
            }
            Command::Rmd(path) => {
                self.on_path("RMD", &path, |_, _| Reply::new(250, "Directory removed"))
                    .await
            }
            Command::Dele(path) => {
                self.on_path("DELE", &path, |_, _| Reply::new(250, "File deleted"))
                    .await
            }
            Command::Rnfr(path) => match self.renamable(&path) {
                Ok(()) => {
                    self.on_path("RNFR", &path, |_, _| Reply::new(350, "Ready for RNTO"))
                        .await
                }
                Err(error) => self.send(Reply::from(&error)).await,
            },
            Command::Rnto(_) if renaming.is_none() => self.say(503, "RNFR must come first").await,
            Command::Rnto(path) => {
                self.renaming = renaming;
                self.on_path("RNTO", &path, renamed_reply).await
            }
            Command::Size(_) if self.converts() => self.no_ascii("SIZE", 550).await,
            Command::Size(path) if self.holds(&path) => self.size_or_held(&path).await,
            Command::Size(path) => self.on_path("SIZE", &path, size_reply).await,
            Command::Mdtm(path) => self.on_path("MDTM", &path, time_reply).await,
            Command::Mfmt(time, path) => self.set_time("MFMT", time, &path).await,
            Command::MdtmTime { time, path, whole } => {
                self.time_or_set_time(time, &path, &whole).await
            }
            Command::Utime(time, path) => self.set_time("SITE UTIME", time, &path).await,
            Command::Hash(algorithm, path) => self.hash(algorithm, &path).await,
            Command::Hashes(path) => self.hashes(&path).await,
            Command::Chmod(path) => {
                let text = "Objects have no permissions, nothing was changed";
                self.on_path("SITE CHMOD", &path, |_, _| Reply::new(200, text))
                    .await
            }
            Command::SiteHelp => self.say(214, SITE_HELP).await,
            Command::Mlst(path) => match self.permitted(&path, Right::List) {
                Ok(()) => {
                    let chosen = self.facts;
                    let reply = |path: &VirtualPath, done| facts_reply(path, done, chosen);
                    self.on_path("MLST", &path, reply).await
                }
                Err(error) => self.send(Reply::from(&error)).await,
            },
            Command::StatPath(path) => self.list_in_reply(&path).await,
            Command::Retr(path) => self.download(&path).await,
            Command::Stor(path) => self.upload(&path, "STOR").await,
            Command::Appe(path) => self.upload(&path, "APPE").await,
            Command::Stou => self.upload_unique().await,
            Command::List(Format::Facts(_), path) => {
                self.list(Format::Facts(self.facts), &path).await
            }
            Command::List(format, path) => self.list(format, &path).await,
        }
    }

    /// Refuses what the user may not do, where the storage can't decide by itself.
    fn permitted(&self, path: &str, right: Right) -> Result<(), StoreError> {
        let user = self.session.user().ok_or(StoreError::Forbidden)?;
        match self.resolve(path) {
            Ok(path) => user.mount(&path).may(right),
            // the command is refused for its path
            Err(_) => Ok(()),
        }
    }

    fn renamable(&self, path: &str) -> Result<(), StoreError> {
        let user = self.session.user().ok_or(StoreError::Forbidden)?;
        let Ok(path) = self.resolve(path) else {
            // the command is refused for its path
            return Ok(());
        };
        user.mount(&path).may(Right::Rename)?;
        user.check_movable(&path)
    }

    async fn status(&mut self) -> Step {
        let user = self
            .session
            .user()
            .map_or("nobody", |user| user.name.as_str());
        let text = format!(
            "cosgate status\nLogged in as {user} from {}\nWorking directory {}\nEnd of status",
            self.session.peer.ip(),
            quoted(self.working_directory.as_str()),
        );
        self.send(Reply::new(211, text)).await
    }
}
