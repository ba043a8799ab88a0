//! A page with its style and its script inside, and the policy that lets a browser run these two and nothing else.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// A page, and its `Content-Security-Policy`.
pub(crate) struct Page {
    pub(crate) html: String,
    pub(crate) policy: String,
}

impl Page {
    /// Puts style and script into `template`, where it has `@STYLE@` and `@SCRIPT@` between their tags. The page loads nothing
    /// from elsewhere; what somebody might smuggle into it is not run, since the policy names the script by its digest.
    pub(crate) fn new(template: &str, style: &str, script: &str) -> Self {
        let digest = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text.as_bytes()));
        Self {
            html: template.replacen("@STYLE@", style, 1).replacen("@SCRIPT@", script, 1),
            policy: format!(
                "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
                 base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
                digest(style),
                digest(script)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_style_and_the_script_by_their_digests() {
        let page = Page::new("<style>@STYLE@</style><script>@SCRIPT@</script>", "p { }", "alert(1)");
        assert_eq!(page.html, "<style>p { }</style><script>alert(1)</script>");
        assert!(
            page.policy.contains("script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI=';"),
            "{}",
            page.policy
        );
        assert!(!page.policy.contains("unsafe"), "{}", page.policy);
    }
}
