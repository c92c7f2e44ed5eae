// Runs `sf data query` of the Salesforce CLI for each query; its plugin is what the whole CLI has inside.
// Arguments: instance URL, access token; standard input: [[SOQL, whether by Tooling], …]. The last line is what it read.
import { readFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

const [instance, token] = process.argv.slice(2);
process.env.SF_ORG_INSTANCE_URL = instance;
const { Config, run } = await import("@oclif/core");
const plugin = fileURLToPath(import.meta.resolve("@salesforce/plugin-data"));
const root = plugin.slice(0, plugin.lastIndexOf("plugin-data") + "plugin-data".length);
const config = await Config.load({ root });

const read = [];
for (const [soql, tooling] of JSON.parse(readFileSync(0, "utf8"))) {
  const flags = ["--json", "--target-org", token, "--query", soql, ...(tooling ? ["--use-tooling-api"] : [])];
  try {
    read.push({ records: (await run(["data:query", ...flags], config)).records });
  } catch (error) {
    read.push({ error: error.name });
  }
}
process.stdout.write(`\n${JSON.stringify(read)}\n`, () => process.exit(0));
