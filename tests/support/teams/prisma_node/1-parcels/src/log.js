// A line of JSON for whatever collects the logs.
export const log = (level, msg) => console.log(JSON.stringify({ time: new Date().toISOString(), level, msg }));
