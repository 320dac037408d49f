//! TLS as the environment says.

use super::{TLS, TLS_CA, refused};
use crate::client::ClientBuilder;
use crate::error::ConfigError;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
use crate::error::PemErrorKind;

/// Whom TLS trusts, if there is to be any.
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub(super) fn secured(
    builder: ClientBuilder,
    lookup: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<ClientBuilder, ConfigError> {
    let ca = lookup(TLS_CA)?;
    let tls = match (lookup(TLS)?.as_deref(), ca) {
        (None | Some("off"), None) => return Ok(builder),
        (Some("native"), None) => crate::Tls::native_roots().map_err(|error| trusting(TLS, error)),
        (Some("native"), Some(ca)) => {
            crate::Tls::native_roots_and(ca.as_ref()).map_err(|error| trusting(TLS_CA, error))
        }
        (None, Some(ca)) => crate::Tls::ca_pem_file(ca).map_err(|error| trusting(TLS_CA, error)),
        (Some("off"), Some(_)) => Err(refused(
            TLS_CA,
            format!("`{TLS}` is `off`; unset one of the two"),
        )),
        // not shown: it may be a certificate or a key
        (Some(_), _) => Err(refused(TLS, "it is neither `native` nor `off`".to_owned())),
    };
    Ok(builder.tls(tls?))
}

/// Nothing that asks for TLS is passed over in silence.
#[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
pub(super) fn secured(
    builder: ClientBuilder,
    lookup: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<ClientBuilder, ConfigError> {
    for name in [TLS, TLS_CA] {
        if lookup(name)?.is_some_and(|value| (name, value.as_str()) != (TLS, "off")) {
            return Err(refused(
                name,
                "this program was built without TLS; build it with the feature `tls` of `dflock`"
                    .to_owned(),
            ));
        }
    }
    Ok(builder)
}

/// Returns the error of the certificates that the variable `name` names, or of the system's store.
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
fn trusting(name: &'static str, error: ConfigError) -> ConfigError {
    match error {
        ConfigError::NoNativeRoots { reason } => {
            let advice = format!(
                "install its CA certificates, or unset `{TLS}` and name them with `{TLS_CA}`"
            );
            refused(
                TLS,
                format!("the system has no certificate that can be trusted: {reason}; {advice}"),
            )
        }
        // the file is not named: the value may be a key or a certificate
        ConfigError::Pem {
            role,
            kind: PemErrorKind::Unreadable { error },
            ..
        } => {
            let (file, kind) = (None, PemErrorKind::NotPath { error });
            super::variable(name, &ConfigError::Pem { role, file, kind })
        }
        error => super::variable(name, &error),
    }
}
