//! What the sidecar asks for and may take.
//!
//! Owns: whether such values can be, their defaults, and laying some over others.
//! Does not own: where they are stated, in a LakeIngest or on a pod.

use std::borrow::Cow;

use crate::Quantity;
use crate::sidecar_config::Violation;

use super::{ComputeResources, Resources, Violations, schema};

impl Resources {
    /// These, and what they leave out from others: value by value.
    pub fn over(&self, others: &Self) -> Self {
        let over = |these: &ComputeResources, others: &ComputeResources| ComputeResources {
            cpu: these.cpu.clone().or_else(|| others.cpu.clone()),
            memory: these.memory.clone().or_else(|| others.memory.clone()),
        };
        Self { requests: over(&self.requests, &others.requests), limits: over(&self.limits, &others.limits) }
    }
}

/// Checks what is stated at a place, which is named in the violations, and fills in what is left out.
///
/// # Errors
/// Every violation.
pub fn validate_resources(at: &str, stated: &Resources) -> Result<Resources, Violations> {
    let mut found = Vec::new();
    let mut check = |ok: bool, field: &str, rule: &str| {
        if !ok {
            found.push(Violation { field: Cow::Owned(format!("{at}.{field}")), detail: rule.to_owned() });
        }
    };
    let Resources { requests, limits } = stated;
    for (list, values) in [("requests", requests), ("limits", limits)] {
        let is_cpu = values.cpu.as_deref().is_none_or(|cpu| millicores(cpu).is_some());
        check(is_cpu, &format!("{list}.cpu"), schema::CPU_RULE);
        let is_legal = |memory: &str| bytes(memory).is_some_and(is_memory);
        check(values.memory.as_deref().is_none_or(is_legal), &format!("{list}.memory"), schema::MEMORY_RULE);
    }
    let memory_limit = limits.memory.as_deref().and_then(bytes);
    let is_enough = memory_limit.is_none_or(|limit| limit >= MEMORY_LIMIT_MIN || !is_memory(limit));
    check(is_enough, "limits.memory", schema::MEMORY_LIMIT_RULE);
    let is_within =
        |request: Option<u64>, limit: Option<u64>| request.zip(limit).is_none_or(|(request, limit)| request <= limit);
    let cpu = |of: &ComputeResources| of.cpu.as_deref().and_then(millicores);
    let memory = |of: &ComputeResources| of.memory.as_deref().and_then(bytes);
    check(is_within(cpu(requests), cpu(limits)), "requests.cpu", schema::REQUEST_RULE);
    check(is_within(memory(requests), memory(limits)), "requests.memory", schema::REQUEST_RULE);
    if found.is_empty() { Ok(with_defaults(stated)) } else { Err(Violations(found)) }
}

/// Whether an amount of memory is within the range of [`schema::MEMORY_RULE`].
fn is_memory(bytes: u64) -> bool {
    (64 << 20..=1 << 40).contains(&bytes)
}

/// Memory that a sidecar may take unless told. Derivation: 300 MiB was its peak when measured, and wide tables take more.
const MEMORY_LIMIT: &str = "512Mi";
/// The least limit of memory. Unit: bytes.
const MEMORY_LIMIT_MIN: u64 = 256 << 20;
const MEMORY_REQUEST: &str = "256Mi";
const CPU_REQUEST: &str = "50m";

fn with_defaults(resources: &Resources) -> Resources {
    let requests = &resources.requests;
    // A request may not be above its limit: the one that is set moves the default of the other.
    let raised = || match requests.memory.as_deref().and_then(bytes).zip(bytes(MEMORY_LIMIT)) {
        Some((request, limit)) if request > limit => requests.memory.clone(),
        _ => Some(MEMORY_LIMIT.to_owned()),
    };
    let limits =
        ComputeResources { cpu: resources.limits.cpu.clone(), memory: resources.limits.memory.clone().or_else(raised) };
    let cpu = || match limits.cpu.as_deref().and_then(millicores).zip(millicores(CPU_REQUEST)) {
        Some((limit, request)) if limit < request => limits.cpu.clone(),
        _ => Some(CPU_REQUEST.to_owned()),
    };
    let requests = ComputeResources {
        cpu: requests.cpu.clone().or_else(cpu),
        memory: requests.memory.clone().or_else(|| Some(MEMORY_REQUEST.to_owned())),
    };
    Resources { requests, limits }
}

/// A quantity of bytes.
fn bytes(quantity: &str) -> Option<u64> {
    quantity.parse::<Quantity>().ok().map(Quantity::bytes)
}

/// Thousandths of a core. The form is that of the schema's rule.
fn millicores(cpu: &str) -> Option<u64> {
    let number = |digits: &str, length_max: usize| {
        let is_number = (1..=length_max).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok()).flatten()
    };
    if let Some(thousandths) = cpu.strip_suffix('m') {
        return number(thousandths, 6);
    }
    let (whole, fraction) = cpu.split_once('.').unwrap_or((cpu, "0"));
    number(fraction, 3)?;
    Some(number(whole, 4)? * 1_000 + number(&format!("{fraction:0<3}"), 3)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stated(resources: serde_json::Value) -> Resources {
        serde_json::from_value(resources).expect("the test's resources have the right shape")
    }

    #[test]
    fn what_is_laid_over_wins_value_by_value_and_moves_the_defaults() {
        let below = stated(json!({"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}}));
        let over = stated(json!({"requests": {"memory": "2Gi"}, "limits": {"memory": "2Gi"}}));
        let both = json!({"requests": {"cpu": "100m", "memory": "2Gi"}, "limits": {"memory": "2Gi"}});
        assert_eq!(over.over(&below), stated(both));
        let raised = stated(json!({"requests": {"memory": "768Mi"}}));
        let filled = validate_resources("x", &raised.over(&Resources::default())).expect("it is legal");
        assert_eq!(filled.limits.memory.as_deref(), Some("768Mi"), "its default follows the request");
    }

    #[test]
    fn a_violation_names_the_place() {
        let wrong = stated(json!({"requests": {"cpu": "x"}, "limits": {"memory": "1Mi"}}));
        let words = validate_resources("annotation", &wrong).expect_err("it is wrong").to_string();
        assert!(words.contains("annotation.requests.cpu: ") && words.contains("annotation.limits.memory: "), "{words}");
    }

    #[test]
    fn cores_are_read_to_the_thousandth() {
        for (text, expected) in [("1", 1_000), ("0.5", 500), ("1.25", 1_250), ("250m", 250), ("0.001", 1)] {
            assert_eq!(millicores(text), Some(expected), "{text}");
        }
        for text in ["", "m", ".5", "1.", "1.0005", "-1", "1e3", "1.5m"] {
            assert_eq!(millicores(text), None, "{text}");
        }
    }
}
