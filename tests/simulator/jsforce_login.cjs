// Logs in by JWT bearer with jsforce, as it comes from npm, and queries. Arguments: login URL, assertion.
const jsforce = require("jsforce");

const [loginUrl, assertion] = process.argv.slice(2);

async function main() {
  const connection = new jsforce.Connection({ oauth2: { loginUrl } });
  const grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer";
  const user = await connection.authorize({ grant_type: grantType, assertion });
  const found = await connection.query("SELECT Id, Username FROM User");
  const usage = connection.limitInfo.apiUsage;
  console.log(JSON.stringify({ user, instance: connection.instanceUrl, records: found.records, usage }));
}

main().catch((error) => {
  console.log(JSON.stringify({ error: error.name, message: error.message }));
});
