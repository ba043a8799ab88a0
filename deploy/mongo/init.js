// mongosh runs this at every `docker compose up`: it makes mongod a replica set of one member and creates the applications'
// user, who may use their own database and nothing else. What exists is kept, but the passwords become those of the files.
const fs = require("fs");
const secret = (name) => fs.readFileSync(`/run/secrets/mongo/${name}`, "utf8").trim();

const admin = db.getSiblingDB("admin");
try {
  admin.auth("root", secret("root_password"));
} catch (refused) {
  // scripts/setup.py --rotate mongo keeps the previous passwords here, the latest first.
  const before = secret("root_password.old").split("\n");
  const known = before.some((password) => {
    try {
      return admin.auth("root", password).ok;
    } catch (refused) {
      return false;
    }
  });
  if (!known) throw refused;
  admin.changeUserPassword("root", secret("root_password"));
}
if (!db.hello().setName) {
  rs.initiate({ _id: "rs0", members: [{ _id: 0, host: "mongo:27017" }] });
}
while (!db.hello().isWritablePrimary) sleep(100);

const own = db.getSiblingDB("multivac");
const rights = { pwd: secret("app_password"), roles: [{ role: "readWrite", db: "multivac" }] };
if (own.getUser("multivac")) own.updateUser("multivac", rights);
else own.createUser({ user: "multivac", ...rights });
