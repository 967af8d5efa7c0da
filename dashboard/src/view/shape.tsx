// State as a shape of its own, so that it can be told without color; always beside a word.

export type Mark = 'good' | 'warn' | 'bad' | 'off' | 'sense' | 'stimulate' | 'alarm';

const PATHS: Record<Mark, string> = {
  good: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Z',
  warn: 'M8 2a6 6 0 1 0 0 12V2Zm0 0a6 6 0 0 1 0 12v-1.6a4.4 4.4 0 0 0 0-8.8Z',
  bad: 'm3.2 1.8 4.8 4.8 4.8-4.8 1.4 1.4L9.4 8l4.8 4.8-1.4 1.4L8 9.4l-4.8 4.8-1.4-1.4L6.6 8 1.8 3.2Z',
  off: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Zm0 1.7a4.3 4.3 0 1 1 0 8.6 4.3 4.3 0 0 1 0-8.6Z',
  sense: 'M2 3h2.4v10H2Zm4.8 0h2.4v10H6.8Zm4.8 0H14v10h-2.400Z',
  stimulate: 'M9.500 1 3 9.300h4L6.300 15 13 6.600H8.800Z',
  alarm: 'M8 1.400 15.300 14.200H.700Zm-.9 4.500v4h1.800v-4Zm0 5.200v1.800h1.800v-1.800Z',
};

export function Shape({ mark }: { mark: Mark }) {
  return (
    <svg class={`shape shape-${mark}`} viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
      <path d={PATHS[mark]} fill-rule="evenodd" />
    </svg>
  );
}
