// Sends the same body so many times at once over one HTTP/2 connection without TLS, and prints how often each status came.
//
//     node http2.js http://127.0.0.1:8001 '/ingest/stream?table_name=events' 200 '{"n": 1}'
const http2 = require('node:http2');

const [url, path, count, body] = process.argv.slice(2);
const session = http2.connect(url);
const statuses = {};
let left = Number(count);

function fail(error) {
  console.error(String(error));
  process.exit(1);
}

session.on('error', fail);
for (let sent = 0; sent < Number(count); sent += 1) {
  const request = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/x-ndjson' });
  request.on('error', fail);
  request.on('response', (headers) => {
    const status = headers[':status'];
    statuses[status] = (statuses[status] || 0) + 1;
  });
  request.on('end', () => {
    left -= 1;
    if (left === 0) {
      console.log(JSON.stringify(statuses));
      session.close();
    }
  });
  request.resume();
  request.end(body);
}
