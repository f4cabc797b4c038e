// One verb with Node's basic-ftp. The order comes as JSON on standard input, a listing goes as JSON to standard output.
"use strict";

const fs = require("fs");
const order = JSON.parse(fs.readFileSync(0, "utf8"));
const { Client } = require(order.module);

const VERBS = {
    upload: (client, [local, remote]) => client.uploadFrom(local, remote),
    download: (client, [remote, local]) => client.downloadTo(local, remote),
    uploadTree: (client, [local, remote]) => client.uploadFromDir(local, remote),
    downloadTree: (client, [local, remote]) => client.downloadToDir(local, remote),
    removeTree: (client, [remote]) => client.removeDir(remote),
    list: async (client, [directory]) => {
        const entries = await client.list(directory);
        console.log(JSON.stringify(entries.map(({ name, size }) => ({ name, size }))));
    },
};

async function main() {
    const client = new Client(20000);
    client.ftp.log = (message) => console.error(message);
    client.ftp.verbose = true;
    try {
        await client.access({
            host: order.host,
            port: order.port,
            user: order.user,
            password: order.password,
            secure: order.implicit ? "implicit" : true,
            secureOptions: {
                ca: fs.readFileSync(order.authority),
                minVersion: order.version,
                maxVersion: order.version,
            },
        });
        await VERBS[order.verb](client, order.arguments);
    } finally {
        client.close();
    }
}

main().catch((error) => {
    console.error(error);
    process.exitCode = 1;
});
