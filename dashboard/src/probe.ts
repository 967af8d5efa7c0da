// window.__eegloop: what tests and curious people may read. No token, no name, nothing that can be changed.
//
// first_sample, last_sample   index of the first sample received and one past the newest, selected seat
// chunks, samples             received since the stream was opened (samples per channel)
// checksum                    sum of all float32 bit patterns received, modulo 2^32 (order does not matter)
// missing                     sample indices that never came
// link, freshness             what the status pill goes by
// renderer                    "worker" or "main"; frames, fps, frame_p95_ms, first_trace_ms, gain_uv as drawn
import { freshness, link, report } from './model';
import type { ChunkHeader } from './contract';
import { HEADER_BYTES } from './contract';

const counts = { first_sample: -1, last_sample: -1, chunks: 0, samples: 0, missing: 0, checksum: 0 };
let renderer: 'worker' | 'main' | 'none' = 'none';

export function setRenderer(kind: 'worker' | 'main'): void {
  renderer = kind;
}

export function resetCounts(): void {
  Object.assign(counts, { first_sample: -1, last_sample: -1, chunks: 0, samples: 0, missing: 0, checksum: 0 });
}

export function countChunk(header: ChunkHeader, bytes: ArrayBuffer): void {
  const words = new Uint32Array(bytes, HEADER_BYTES);
  let sum = counts.checksum;
  for (let i = 0; i < words.length; i++) sum = (sum + words[i]!) >>> 0;
  counts.checksum = sum;
  if (counts.first_sample < 0) counts.first_sample = header.firstSample;
  else if (header.firstSample > counts.last_sample) counts.missing += header.firstSample - counts.last_sample;
  counts.last_sample = header.firstSample + header.samples;
  counts.chunks += 1;
  counts.samples += header.samples;
}

export function installProbe(): void {
  Object.defineProperty(window, '__eegloop', {
    enumerable: false,
    configurable: false,
    get: () =>
      Object.freeze({
        ...counts,
        link: link.value,
        freshness: freshness.value,
        renderer,
        frames: report.value?.frames ?? 0,
        fps: report.value?.fps ?? 0,
        frame_p95_ms: report.value?.frameP95Ms ?? 0,
        first_trace_ms: report.value?.firstTraceMs ?? null,
        gain_uv: report.value?.gainUv ?? null,
      }),
  });
}
