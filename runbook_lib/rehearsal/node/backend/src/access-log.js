import { pinoHttp } from "pino-http";
import { log } from "./log.js";

// One log line for each request.
export const accessLog = pinoHttp({ logger: log });
