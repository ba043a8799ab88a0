//! Whether the user of MongoDB's URL may do all that the store does.

use mongodb::bson::{Bson, Document, doc};

use super::documents::ENTROPY;
use super::marks::INDEXES;
use super::member::Member;
use crate::adapters::findings::Finding;

const CHECK: &str = "mongodb.rights";

/// What is done with a collection; without a name, with the database.
type Needed = (&'static str, &'static [&'static str]);

/// What is done with each collection.
const NEEDED: [Needed; 3] = [
    (ENTROPY, &["find", "insert", "update", "changeStream", "createIndex"]),
    ("replicas", &["find", "insert", "update", "createIndex"]),
    ("backups", &["find", "insert", "update"]),
];

/// What is done beside that for an index that is kept over restarts.
const NEEDED_TO_KEEP: [Needed; 2] =
    [(INDEXES, &["find", "insert", "update", "createIndex"]), ("", &["listCollections"])];

/// What of it is not allowed.
pub(super) async fn rights(member: &Member) -> Finding {
    let name = member.database.name();
    let advice = format!("give the user the role readWrite on the database {name} (deploy/mongo/init.js shows how)");
    let status = match member.run(Some("admin"), doc! { "connectionStatus": 1, "showPrivileges": true }).await {
        Ok(status) => status,
        Err(failure) => return failure.finding(CHECK, "the user's rights"),
    };
    let of = |field| status.get_document("authInfo").and_then(|info| info.get_array(field)).map(Vec::as_slice);
    if of("authenticatedUsers").unwrap_or_default().is_empty() {
        // Nobody, who may do everything or nothing.
        return match member.run(None, doc! { "find": ENTROPY, "limit": 1, "projection": { "_id": 1 } }).await {
            Err(failure) if failure.is_unauthorized() => {
                Finding::error(CHECK, "MongoDB asks for a user, and MONGO_URL names none", advice)
            }
            _ => Finding::ok(CHECK, "MongoDB asks for no user"),
        };
    }
    let privileges = of("authenticatedUserPrivileges").unwrap_or_default();
    let privileges: Vec<&Document> = privileges.iter().filter_map(Bson::as_document).collect();
    let missing = |needed| missing(&privileges, name, needed).join(", ");
    match (missing(&NEEDED), missing(&NEEDED_TO_KEEP)) {
        (of_all, _) if !of_all.is_empty() => Finding::error(CHECK, format!("these are missing: {of_all}"), advice),
        (_, to_keep) if !to_keep.is_empty() => {
            let found = format!("these are missing, which an api with --index-dir needs: {to_keep}");
            Finding::warning(CHECK, found, advice)
        }
        _ => Finding::ok(CHECK, "all that the store needs"),
    }
}

fn missing(privileges: &[&Document], database: &str, needed: &[Needed]) -> Vec<String> {
    let needed =
        needed.iter().flat_map(|(collection, actions)| actions.iter().map(move |action| (*collection, *action)));
    let is_granted = |(collection, action): &(&str, &str)| {
        privileges.iter().any(|privilege| covers(privilege, database, collection) && allows(privilege, action))
    };
    let shown = |(collection, action)| match collection {
        "" => format!("{action} on the database"),
        _ => format!("{action} on {collection}"),
    };
    needed.filter(|right| !is_granted(right)).map(shown).collect()
}

/// An empty name in a resource stands for any, but of collections only those that are no system's.
fn covers(privilege: &Document, database: &str, collection: &str) -> bool {
    let Ok(resource) = privilege.get_document("resource") else { return false };
    let matches = |field, name: &str| resource.get_str(field).is_ok_and(|given| given.is_empty() || given == name);
    resource.get_bool("anyResource").unwrap_or(false) || (matches("db", database) && matches("collection", collection))
}

fn allows(privilege: &Document, action: &str) -> bool {
    let actions = privilege.get_array("actions").map(Vec::as_slice).unwrap_or_default();
    actions
        .iter()
        .any(|allowed| matches!(allowed.as_str(), Some(allowed) if allowed == action || allowed == "anyAction"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privilege(resource: Document, actions: &[&str]) -> Document {
        doc! { "resource": resource, "actions": actions }
    }

    #[test]
    fn rights_are_on_a_collection_a_database_or_everything() {
        let all = ["find", "insert", "update", "changeStream", "createIndex", "dropIndex"];
        let on = |db: &str, collection: &str| privilege(doc! { "db": db, "collection": collection }, &all);
        let missing = |privileges: &[&Document]| missing(privileges, "multivac", &NEEDED);
        for enough in [on("multivac", ""), on("", ""), privilege(doc! { "anyResource": true }, &["anyAction"])] {
            assert!(missing(&[&enough]).is_empty(), "{enough}");
        }
        assert_eq!(missing(&[&on("other", "")]).len(), 12);
        assert_eq!(missing(&[&on("multivac", "entropy")]).len(), 7);
        let reads = privilege(doc! { "db": "multivac", "collection": "" }, &["find", "changeStream"]);
        assert_eq!(
            missing(&[&reads, &on("multivac", "replicas")]),
            [
                "insert on entropy",
                "update on entropy",
                "createIndex on entropy",
                "insert on backups",
                "update on backups"
            ]
        );
    }

    #[test]
    fn an_index_that_is_kept_needs_rights_of_its_own() {
        let on = |collection: &str| {
            privilege(
                doc! { "db": "multivac", "collection": collection },
                &["find", "insert", "update", "createIndex", "listCollections"],
            )
        };
        let missing = |privileges: &[&Document]| missing(privileges, "multivac", &NEEDED_TO_KEEP);
        assert!(missing(&[&on("")]).is_empty());
        assert_eq!(missing(&[&on("indexes")]), ["listCollections on the database"]);
        let lists = privilege(doc! { "db": "multivac", "collection": "" }, &["listCollections"]);
        let all = ["find on indexes", "insert on indexes", "update on indexes", "createIndex on indexes"];
        assert_eq!(missing(&[&on("entropy"), &lists]), all);
    }
}
