//! `inject`: manifests with the sidecar in every pod that asks for it.
//!
//! Owns: which objects are judged and against which LakeIngests, what is said of each, and that nothing is printed when
//! one is refused. Does not own: judging (`admit`) and the patch (`inject`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::admit::{Admission, Asked, Judged, asked, let_pass_warning};
use crate::error_chain;
use crate::names::INJECT;

use super::cluster::{Cluster, ClusterArguments, ClusterError, Installation};
use super::documents::{self, Document, DocumentError};
use super::known::{ImageArguments, Known};
use super::objects::Object;
use super::{CliError, EXIT_REFUSED, print};

/// Namespaces that the webhook of every chart leaves alone.
/// Source: charts/lakeingest/templates/webhook.yaml.
const EXCLUDED: [&str; 2] = ["kube-system", "kube-node-lease"];

/// The namespace of an object that names none, where no context does either.
const DEFAULT_NAMESPACE: &str = "default";

/// The end of the help.
pub(super) const AFTER_HELP: &str = "\
LakeIngests, and the labels of namespaces, are taken from the files themselves, from --lakeingest, and from the cluster if
there is a kubeconfig; the first that has one wins. What does not ask is printed as it came, byte for byte.

Exit code: 0 done; 1 something is refused, and nothing is printed; 2 an input or the cluster cannot be read.

  lakeingest-operator inject -f deployment.yaml | kubectl apply -f -
  kubectl get deployment shop -o yaml | lakeingest-operator inject -f -
  lakeingest-operator inject --offline -f lakeingest.yaml -f deployment.yaml";

/// `lakeingest-operator inject`.
#[derive(Args, Clone, Debug)]
pub struct InjectArguments {
    /// Manifests, YAML or JSON, of pods and what makes pods; - is standard input; once for each
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Manifests of LakeIngests and namespaces, which are not printed; once for each
    #[arg(long = "lakeingest", value_name = "FILE")]
    pub lake_ingests: Vec<PathBuf>,

    /// Never ask a cluster
    #[arg(long)]
    pub offline: bool,

    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,

    /// The images.
    #[command(flatten)]
    pub images: ImageArguments,
}

/// Manifests with the sidecar in what asked for it, and what is said of them.
#[derive(Debug, Default)]
struct Injected {
    documents: Vec<Document>,
    /// For standard error, a line each.
    words: Vec<String>,
    is_refused: bool,
}

/// Judges and prints.
pub(super) async fn run(arguments: InjectArguments) -> Result<ExitCode, CliError> {
    let documents = documents::read(&arguments.files)?;
    let further = documents::read(&arguments.lake_ingests)?;
    let cluster = match arguments.offline {
        true => None,
        false => Cluster::find(&arguments.cluster).await?,
    };
    let namespace = match &cluster {
        Some(cluster) => cluster.namespace.clone(),
        None => arguments.cluster.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
    };
    let mut words = Vec::new();
    let context = context(&documents, &further, &namespace, cluster.as_ref(), &arguments.images, &mut words).await?;
    let mut injected = inject(documents, &context)?;
    words.append(&mut injected.words);
    for line in &words {
        eprintln!("{line}");
    }
    if injected.is_refused {
        return Ok(ExitCode::from(EXIT_REFUSED));
    }
    print(&documents::joined(&injected.documents))?;
    Ok(ExitCode::SUCCESS)
}

/// What the objects are judged by.
#[derive(Debug)]
struct Context {
    admission: Admission,
    namespace: String,
    excluded: Vec<String>,
}

/// Puts together what the objects are judged by. The cluster is asked only if something asks for a sidecar.
async fn context(
    documents: &[Document],
    further: &[Document],
    namespace: &str,
    cluster: Option<&Cluster>,
    images: &ImageArguments,
    words: &mut Vec<String>,
) -> Result<Context, CliError> {
    let mut known = Known::default();
    for document in documents.iter().chain(further) {
        for object in Object::all(&document.json()?) {
            known.add(&object, namespace);
        }
    }
    let mut installation = Installation::default();
    let mut asking = BTreeSet::new();
    for (namespace, asks) in namespaces(documents, namespace)? {
        let is_asking = match cluster {
            Some(cluster) => known.ask_namespace(cluster, &namespace).await.unwrap_or_else(|error| {
                words.push(format!("warning: {}", error_chain(&error)));
                false
            }),
            None => false,
        } || asks;
        asking.extend(is_asking.then_some(namespace));
    }
    if let Some(cluster) = cluster.filter(|_| !asking.is_empty()) {
        for namespace in &asking {
            let asked = known.ask(cluster, namespace).await;
            asked.or_else(|error| unless_absent(error, words)).map_err(CliError::LakeIngests)?;
        }
        match cluster.installation().await {
            Ok(found) => installation = found,
            Err(error) => words.push(format!("warning: {}", error_chain(&error))),
        }
        if installation.arguments.is_none() && images.sidecar_image.is_none() {
            let image = images.policy(None).default_image;
            words.push(format!(
                "warning: which sidecar the operator of the cluster takes cannot be seen; this is {image}, unless \
                 --sidecar-image names another"
            ));
        }
    }
    let mut excluded = installation.excluded_namespaces();
    excluded.extend(EXCLUDED.map(str::to_owned));
    let policy = images.policy(installation.arguments.map(|arguments| arguments.images()));
    Ok(Context { admission: known.admission(policy), namespace: namespace.to_owned(), excluded })
}

/// A cluster into which nothing was installed yet has no LakeIngests; one that does not answer is another matter.
fn unless_absent(error: ClusterError, words: &mut Vec<String>) -> Result<(), ClusterError> {
    match &error {
        ClusterError::Ask { source, .. } if matches!(&**source, kube::Error::Api(answer) if answer.code == 404) => {
            let line = "warning: the cluster knows no LakeIngests: the operator is not installed there".to_owned();
            if !words.contains(&line) {
                words.push(line);
            }
            Ok(())
        }
        _ => Err(error),
    }
}

/// The namespaces of pods for which a sidecar may be asked, each with whether one of its pods asks itself.
fn namespaces(documents: &[Document], default: &str) -> Result<BTreeMap<String, bool>, DocumentError> {
    let mut namespaces = BTreeMap::new();
    for document in documents {
        for object in Object::all(&document.json()?) {
            let Some(pod) = object.pod_pointer().and_then(|pointer| object.value.pointer(pointer)) else { continue };
            let asks = asked(pod) != Asked::Nothing;
            if asks || pod["metadata"]["annotations"][INJECT].is_null() {
                *namespaces.entry(object.namespace.unwrap_or(default).to_owned()).or_default() |= asks;
            }
        }
    }
    Ok(namespaces)
}

/// Adds the sidecar to what asks for it.
fn inject(documents: Vec<Document>, context: &Context) -> Result<Injected, DocumentError> {
    let mut injected = Injected::default();
    for mut document in documents {
        let json = document.json()?;
        let mut value = document.value.clone();
        let mut is_changed = false;
        for object in Object::all(&json) {
            for (pointer, added) in judge(&object, &document.place, context, &mut injected) {
                add(&mut value, &pointer, &added);
                is_changed = true;
            }
        }
        if is_changed {
            document.replace(value);
        }
        injected.documents.push(document);
    }
    Ok(injected)
}

/// What is added to an object, each with the place in its document.
fn judge(object: &Object<'_>, place: &str, context: &Context, said: &mut Injected) -> Vec<(String, Value)> {
    let namespace = object.namespace.unwrap_or(&context.namespace);
    let title = format!("{place}: {}", object.title(namespace));
    let mut say = |level: &str, text: &str| said.words.push(format!("{level}: {title}: {text}"));
    let template = object.pod_pointer();
    let Some((template, pod)) = template.and_then(|pointer| Some((pointer, object.value.pointer(pointer)?))) else {
        if asked(&object.value["spec"]["template"]) != Asked::Nothing {
            say("warning", "left as it is, since its kind is not known here; the webhook sees the pods that it makes");
        }
        return Vec::new();
    };
    let pod = &as_sent(pod);
    if context.admission.asked(namespace, pod).0 == Asked::Nothing {
        if !template.is_empty() && asked(object.value) != Asked::Nothing {
            say(
                "warning",
                &format!(
                    "{INJECT} stands on the {} and asks for nothing: it belongs on {}.metadata.annotations",
                    object.kind,
                    template.trim_start_matches('/').replace('/', ".")
                ),
            );
        }
        return Vec::new();
    }
    if context.excluded.iter().any(|excluded| excluded == namespace) {
        say("warning", "left as it is, since the webhook injects nothing into pods of this namespace");
        return Vec::new();
    }
    match context.admission.judge(namespace, pod) {
        Judged::NotAsked => Vec::new(),
        Judged::Injected { injection, .. } => {
            for warning in &injection.warnings {
                say("warning", warning);
            }
            let placed = |operation: &Value| {
                let path = operation["path"].as_str().unwrap_or_default();
                (format!("{}{template}{path}", object.pointer), operation["value"].clone())
            };
            injection.patch.iter().map(placed).collect()
        }
        Judged::Refused { reason, is_let_pass: true } => {
            say("warning", &let_pass_warning(&reason));
            Vec::new()
        }
        Judged::Refused { reason, is_let_pass: false } => {
            let hint = match object.namespace {
                Some(_) => "",
                None => " (it names no namespace: --namespace says which is meant)",
            };
            say("refused", &format!("{reason}{hint}"));
            said.is_refused = true;
            Vec::new()
        }
    }
}

/// A pod as the API server would send it: it has read a null of a map of texts as an empty text, and knows both names of the
/// field for the account.
fn as_sent(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let annotations = pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    for (_, value) in annotations.into_iter().flatten() {
        if value.is_null() {
            *value = Value::from("");
        }
    }
    if is_absent(&pod["spec"]["serviceAccountName"]) && !is_absent(&pod["spec"]["serviceAccount"]) {
        pod["spec"]["serviceAccountName"] = pod["spec"]["serviceAccount"].clone();
    }
    pod
}

fn is_absent(text: &Value) -> bool {
    text.is_null() || text == ""
}

/// Does the operation `add` of a JSON Patch to YAML, whose fields keep their order; a patch of ours has no other.
fn add(document: &mut serde_yaml::Value, pointer: &str, value: &Value) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    let unescaped = |step: &str| step.replace("~1", "/").replace("~0", "~");
    let mut steps = parent.split('/').skip(1).map(unescaped);
    let found = steps.try_fold(document, |at, step| match at {
        serde_yaml::Value::Sequence(items) => items.get_mut(step.parse::<usize>().ok()?),
        at => at.get_mut(step.as_str()),
    });
    let value = serde_yaml::to_value(value).expect("JSON is YAML");
    match found {
        Some(serde_yaml::Value::Mapping(fields)) => {
            fields.insert(unescaped(last).into(), value);
        }
        Some(serde_yaml::Value::Sequence(items)) => {
            let index = last.parse().unwrap_or(items.len());
            items.insert(index.min(items.len()), value);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
