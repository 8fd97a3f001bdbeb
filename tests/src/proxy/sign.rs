//! Signatures of requests that were changed on their way.
//!
//! Owns: signature version 4 of one request. Does not own: which header was taken out.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>.

use sha2::{Digest, Sha256};
use xtask::servers::S3Access;

use super::Head;

/// Bytes of a block of SHA-256.
const BLOCK_BYTES: usize = 64;

/// Headers that a client may add after it has signed.
const UNSIGNED: [&str; 6] =
    ["authorization", "content-length", "user-agent", "connection", "accept", "accept-encoding"];

/// Signs a request anew with the keys of `access`, for the time and the body that it names.
pub(super) fn sign(head: &mut Head, access: &S3Access) {
    head.headers.retain(|(name, _)| name != "authorization");
    let date_time = head.header("x-amz-date").unwrap_or_default().to_owned();
    let body = head.header("x-amz-content-sha256").unwrap_or_default().to_owned();
    let date = date_time.get(..8).unwrap_or_default().to_owned();
    let mut headers: Vec<_> = head.headers.iter().filter(|(name, _)| !UNSIGNED.contains(&name.as_str())).collect();
    headers.sort();
    let names = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
    let canonical = format!("{}\n{path}\n{query}\n{lines}\n{names}\n{body}", head.method);
    let scope = format!("{date}/{}/s3/aws4_request", access.region);
    let digest = hex(&Sha256::digest(canonical));
    let text = format!("AWS4-HMAC-SHA256\n{date_time}\n{scope}\n{digest}");
    let secret = format!("AWS4{}", access.secret_key).into_bytes();
    let key = [date.as_str(), access.region.as_str(), "s3", "aws4_request"]
        .into_iter()
        .fold(secret, |key, part| hmac(&key, part.as_bytes()).to_vec());
    let signature = hex(&hmac(&key, text.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        access.access_key
    );
    head.headers.push(("authorization".to_owned(), authorization));
}

/// Source: RFC 2104.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    match key.len() > BLOCK_BYTES {
        true => block[..32].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let padded = |byte: u8| block.map(|of_key| of_key ^ byte);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: RFC 4231, test case 2.
    #[test]
    fn the_authentication_code_is_that_of_the_standard() {
        let code = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(&code), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
