// Logs in by JWT bearer with jsforce, as it comes from npm, and queries. Arguments: login URL, assertion;
// standard input: [[SOQL, whether by Tooling], …].
const { readFileSync } = require("node:fs");
const jsforce = require("jsforce");

const [loginUrl, assertion] = process.argv.slice(2);
const options = { autoFetch: true, responseTarget: "Records", headers: { "Sforce-Query-Options": "batchSize=200" } };

async function main() {
  const connection = new jsforce.Connection({ oauth2: { loginUrl } });
  const grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer";
  const user = await connection.authorize({ grant_type: grantType, assertion });
  const read = [];
  for (const [soql, tooling] of JSON.parse(readFileSync(0, "utf8"))) {
    try {
      const query = (tooling ? connection.tooling : connection).query(soql);
      read.push({ records: await query.execute(options) });
    } catch (error) {
      read.push({ error: error.name });
    }
  }
  const { accessToken, instanceUrl: instance } = connection;
  console.log(JSON.stringify({ user, instance, accessToken, read, usage: connection.limitInfo.apiUsage }));
}

main().catch((error) => {
  console.log(JSON.stringify({ error: error.name, message: error.message }));
});
