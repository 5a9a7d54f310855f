//! Who may act: the superuser, whoever the service itself runs as, and whom polkit allows.
//!
//! The bus daemon says who a caller is, so the superuser needs no polkit. Everybody else is asked about there, by the
//! name of the connection, which cannot be another's while the call is answered. Where no polkit runs, they may not.

use std::collections::HashMap;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::time::timeout;
use tracing::debug;
use zbus::Connection;
use zbus::fdo::ConnectionCredentials;
use zbus::message::{Flags, Header};
use zbus::proxy::{CacheProperties, MethodFlags};
use zbus_polkit::policykit1::{
    AuthorityProxy, AuthorizationResult, CheckAuthorizationFlags, Subject,
};

use super::refusal::Refusal;
use crate::control::{ControlHandle, Reply, Request};

/// What polkit is asked for; see `dist/dbus/org.sersync1.policy`.
const ACTION: &str = "org.sersync1.control";
/// polkit reads its rules meanwhile, nothing more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(25);
/// A person types a password meanwhile.
const PERSON_TIMEOUT: Duration = Duration::from_secs(300);

/// Whether polkit may ask a person for a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interaction {
    /// If the caller said that one is there.
    AsCalled,
    /// In no case.
    Never,
}

/// Asks the daemon for a caller who may act.
pub(super) async fn ask<T>(
    control: &ControlHandle,
    connection: &Connection,
    header: &Header<'_>,
    request: impl FnOnce(Reply<T>) -> Request,
) -> Result<T, Refusal> {
    authorize(connection, header, Interaction::AsCalled).await?;
    Ok(control.ask(request).await?)
}

/// Whether the caller may act.
pub(super) async fn authorize(
    connection: &Connection,
    header: &Header<'_>,
    interaction: Interaction,
) -> Result<(), Refusal> {
    let uid = caller_uid(connection, header).await;
    if uid.is_some_and(|uid| uid == 0 || uid == geteuid().as_raw()) {
        return Ok(());
    }
    let may_interact = interaction == Interaction::AsCalled
        && header
            .primary()
            .flags()
            .contains(Flags::ALLOW_INTERACTIVE_AUTH);
    let verdict = ask_polkit(connection, header, may_interact).await;
    match verdict {
        Ok(verdict) if verdict.is_authorized => Ok(()),
        Ok(verdict) if verdict.is_challenge && !may_interact => {
            Err(Refusal::InteractiveAuthorizationRequired(format!(
                "{ACTION} needs a password: call as root, or where one can be typed"
            )))
        }
        Ok(_) => Err(denied()),
        Err(error) => {
            debug!("polkit does not answer: {error}");
            Err(denied())
        }
    }
}

fn denied() -> Refusal {
    Refusal::AccessDenied(format!("only root may, and whom polkit allows {ACTION}"))
}

async fn caller_uid(connection: &Connection, header: &Header<'_>) -> Option<u32> {
    let bus = "org.freedesktop.DBus";
    let reply = connection
        .call_method(
            Some(bus),
            "/org/freedesktop/DBus",
            Some(bus),
            "GetConnectionCredentials",
            header.sender()?,
        )
        .await
        .ok()?;
    let credentials: ConnectionCredentials = reply.body().deserialize().ok()?;
    credentials.unix_user_id()
}

async fn ask_polkit(
    connection: &Connection,
    header: &Header<'_>,
    may_interact: bool,
) -> Result<AuthorizationResult, Box<dyn std::error::Error + Send + Sync>> {
    let (flags, limit) = if may_interact {
        (
            CheckAuthorizationFlags::ALLOW_USER_INTERACTION,
            PERSON_TIMEOUT,
        )
    } else {
        (CheckAuthorizationFlags::empty(), ANSWER_TIMEOUT)
    };
    let subject = Subject::new_for_message_header(header)?;
    let polkit = AuthorityProxy::builder(connection)
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    let details = HashMap::<&str, &str>::new();
    // The proxy's own method would end with the time-out of the connection, which is too short for a person.
    let question = (subject, ACTION, details, flags, "");
    let answer =
        polkit
            .inner()
            .call_with_flags("CheckAuthorization", MethodFlags::empty(), &question);
    let verdict = timeout(limit, answer).await??;
    verdict.ok_or_else(|| "no answer".into())
}
