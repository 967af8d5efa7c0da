// The one WebSocket of the page: signs in, passes on what comes, and is back within two seconds when it was cut.
import type { ChunkHeader, CommandResult, LoopState, Seat, StopResult } from './contract';
import { readHeader } from './contract';
import { freshId } from './ids';
import { forgetToken, keepStopToken, signIn, takeSecret } from './link';
import { challenge, chunkAt, demo, dropped, link, refusals, signOutReason, streaming, takeState } from './model';

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 1500;
/** States come four times a second; a socket this silent is dead, whatever TCP still believes. */
const SILENCE_MS = 3000;
const OPEN_LIMIT_MS = 2500;
const SIGN_IN_RETRY_MS = 5000;

export interface Listeners {
  chunk(header: ChunkHeader, bytes: ArrayBuffer): void;
  stopResult(result: StopResult): void;
  /** The link is up (again): whatever is still wanted can be said now. */
  opened(): void;
}

interface Message {
  type?: string;
  [key: string]: unknown;
}

/** Age of the daemon's word in a state frame, s. */
function daemonAge(daemon: unknown): number {
  if (typeof daemon !== 'object' || daemon === null) return 0;
  const { age_s } = daemon as { age_s?: number | null };
  return typeof age_s === 'number' ? age_s : Infinity;
}

export class Live {
  private socket: WebSocket | null = null;
  private retryMs = FIRST_RETRY_MS;
  private heardMs = 0;
  private welcomed = false;
  private secret: string | null = takeSecret();
  private readonly waiting = new Map<string, (result: CommandResult) => void>();
  private timer = 0;
  private signingIn = false;

  constructor(private readonly listeners: Listeners) {
    setInterval(() => this.watch(), 500);
    addEventListener('online', () => this.again(0));
    addEventListener('hashchange', () => {
      const secret = takeSecret();
      if (secret === null) return;
      this.secret = secret;
      this.drop();
      this.again(0);
    });
  }

  start(): void {
    void this.connect();
  }

  /** Sends if the link is up; false if it is not. */
  send(message: object): boolean {
    if (!this.welcomed || this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  /** Asks the daemon for something; the answer, or what stood in the way. */
  command(seat: string, name: string): Promise<CommandResult> {
    const id = freshId();
    return new Promise((resolve) => {
      const timeout = setTimeout(() => settle({ id, ok: false, error: 'no answer within 5 s' }), 5000);
      const settle = (result: CommandResult): void => {
        clearTimeout(timeout);
        this.waiting.delete(id);
        resolve(result);
      };
      this.waiting.set(id, settle);
      if (!this.send({ type: 'command', seat, name, id })) settle({ id, ok: false, error: 'no connection to eegloop' });
    });
  }

  private async connect(): Promise<void> {
    if (this.signingIn || this.socket !== null) return;
    this.signingIn = true;
    const result = await signIn(this.secret).finally(() => {
      this.signingIn = false;
    });
    if (!result.ok) {
      if (result.reason === 'unreachable') {
        link.value = 'lost';
        this.again();
      } else {
        this.secret = null;
        signOutReason.value = result.reason;
        link.value = 'signed-out';
        this.again(SIGN_IN_RETRY_MS); // a demo that is just starting lets the page in by itself
      }
      return;
    }
    this.secret = null;
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(`${scheme}//${location.host}/api/v1/live`);
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    this.heardMs = performance.now();
    socket.onopen = () => socket.send(JSON.stringify({ type: 'hello', token: result.token }));
    socket.onmessage = (event) => this.take(event.data as string | ArrayBuffer);
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.drop();
      if (event.code === 4401) {
        forgetToken();
        this.again(0);
      } else {
        this.again();
      }
    };
  }

  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    this.welcomed = false;
    if (link.value === 'open') link.value = 'lost';
    for (const settle of [...this.waiting.values()]) settle({ id: '', ok: false, error: 'the connection was cut; nothing is known of this command' });
    if (socket !== null && socket.readyState <= WebSocket.OPEN) socket.close();
  }

  private again(afterMs: number = this.retryMs): void {
    if (this.socket !== null) return;
    this.retryMs = Math.min(LONGEST_RETRY_MS, this.retryMs * 2);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.connect(), afterMs);
  }

  private watch(): void {
    if (this.socket === null) return;
    const silence = performance.now() - this.heardMs;
    if (silence > (this.welcomed ? SILENCE_MS : OPEN_LIMIT_MS)) {
      this.drop();
      this.again();
    }
  }

  private take(data: string | ArrayBuffer): void {
    const atMs = performance.now();
    this.heardMs = atMs;
    if (data instanceof ArrayBuffer) {
      const header = readHeader(data);
      if (header === null) return;
      chunkAt.set(header.seatIndex, atMs);
      this.listeners.chunk(header, data);
      return;
    }
    let message: Message;
    try {
      message = JSON.parse(data) as Message;
    } catch {
      return;
    }
    switch (message.type) {
      case 'welcome':
        this.welcomed = true;
        this.retryMs = FIRST_RETRY_MS;
        if (typeof message['stop_token'] === 'string') keepStopToken(message['stop_token']);
        this.takeSeats(message);
        link.value = 'open';
        this.listeners.opened();
        break;
      case 'seats':
        this.takeSeats(message);
        break;
      case 'state':
        takeState((message['seats'] as Partial<LoopState>[] | undefined) ?? [], daemonAge(message['daemon']), atMs);
        break;
      case 'gap': {
        const seat = String(message['seat'] ?? '');
        dropped.value = { ...dropped.value, [seat]: (dropped.value[seat] ?? 0) + Number(message['lost_samples'] ?? 0) };
        break;
      }
      case 'challenge':
        challenge.value = String(message['nonce'] ?? '');
        break;
      case 'event':
        if (message['name'] === 'refused') {
          refusals.value = { ...refusals.value, [String(message['seat'] ?? '')]: { text: String(message['text'] ?? ''), atMs } };
        }
        break;
      case 'stop_result':
        this.listeners.stopResult(message as unknown as StopResult);
        break;
      case 'command_result': {
        const result = message as unknown as CommandResult;
        this.waiting.get(result.id)?.(result);
        break;
      }
    }
  }

  private takeSeats(message: Message): void {
    const list = message['seats'];
    if (Array.isArray(list)) streaming.value = list as Seat[];
    if (typeof message['demo'] === 'boolean') demo.value = message['demo'];
  }
}
