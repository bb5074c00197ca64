//! The environment of a container, and `$(VAR)` in its command line.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, Pod};

use super::Context;
use super::fields;
use super::sources::{self, Entries, NotReady};

/// The variables of one container.
pub(super) type Environment = BTreeMap<String, String>;

/// Resolves the variables of `container`. Later ones override earlier ones, in the kubelet's order: the API server's
/// address, `envFrom`, `env`.
pub(super) async fn resolve(context: &Context, pod: &Pod, container: &Container) -> Result<Environment, NotReady> {
    let mut environment = Environment::from([
        ("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
        ("HOSTNAME".into(), pod.metadata.name.clone().unwrap_or_default()),
        ("HOME".into(), "/".into()),
        ("KUBERNETES_SERVICE_HOST".into(), fields::ADDRESS.into()),
        ("KUBERNETES_SERVICE_PORT".into(), context.apiserver_port.to_string()),
        ("KUBERNETES_SERVICE_PORT_HTTPS".into(), context.apiserver_port.to_string()),
    ]);
    for source in container.env_from.iter().flatten() {
        for (key, value) in whole_source(context, pod, source).await? {
            let key = source.prefix.clone().unwrap_or_default() + &key;
            environment.insert(key, String::from_utf8_lossy(&value).into_owned());
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value {
            Some(value) => Some(expand(value, &environment)),
            None => referenced(context, pod, container, variable).await?,
        };
        if let Some(value) = value {
            environment.insert(variable.name.clone(), value);
        }
    }
    Ok(environment)
}

async fn whole_source(context: &Context, pod: &Pod, source: &EnvFromSource) -> Result<Entries, NotReady> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (entries, optional) = if let Some(reference) = &source.config_map_ref {
        let entries = sources::config_map(&context.client, namespace, &reference.name).await;
        (entries, reference.optional)
    } else if let Some(reference) = &source.secret_ref {
        let entries = sources::secret(&context.client, namespace, &reference.name).await;
        (entries, reference.optional)
    } else {
        return Ok(Entries::new());
    };
    match entries {
        Err(_) if optional == Some(true) => Ok(Entries::new()),
        entries => entries.map_err(NotReady::config),
    }
}

/// The value of a `valueFrom`; `None` if an optional reference does not exist.
async fn referenced(
    context: &Context,
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
) -> Result<Option<String>, NotReady> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(String::new()));
    };
    if let Some(selector) = &source.field_ref {
        return fields::field(pod, &selector.field_path)
            .map(Some)
            .ok_or_else(|| NotReady::config(format!("unsupported fieldPath: {}", selector.field_path)));
    }
    if let Some(selector) = &source.resource_field_ref {
        let own = Some(container.name.as_str());
        return fields::resource(pod, own, selector, &context.allocatable())
            .map(Some)
            .ok_or_else(|| NotReady::config(format!("unsupported resource: {}", selector.resource)));
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (kind, entries, name, key, optional) = if let Some(selector) = &source.config_map_key_ref {
        let entries = sources::config_map(&context.client, namespace, &selector.name).await;
        ("ConfigMap", entries, &selector.name, &selector.key, selector.optional)
    } else if let Some(selector) = &source.secret_key_ref {
        let entries = sources::secret(&context.client, namespace, &selector.name).await;
        ("Secret", entries, &selector.name, &selector.key, selector.optional)
    } else {
        return Err(NotReady::config(format!(
            "the local kubelet does not support the source of the variable {}",
            variable.name
        )));
    };
    let value = entries.and_then(|entries| {
        entries
            .get(key)
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .ok_or_else(|| format!("couldn't find key {key} in {kind} {namespace}/{name}"))
    });
    match value {
        Ok(value) => Ok(Some(value)),
        Err(_) if optional == Some(true) => Ok(None),
        Err(message) => Err(NotReady::config(message)),
    }
}

/// Replaces `$(NAME)` with the variable's value and `$$` with `$`. An unknown name is kept as it is.
pub(super) fn expand(text: &str, environment: &Environment) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            expanded.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match environment.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_like_the_kubelet_does() {
        let environment = Environment::from([("A".into(), "1".into()), ("B".into(), "$(A)".into())]);
        for (text, expected) in [
            ("--shard=$(A)", "--shard=1"),
            ("$(A)$(A)", "11"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(A)"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$A and $(A", "$A and $(A"),
            ("cost: 5$", "cost: 5$"),
        ] {
            assert_eq!(expand(text, &environment), expected, "{text}");
        }
    }
}
