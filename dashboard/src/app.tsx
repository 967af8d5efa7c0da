// The page: STOP first, then what is true now, then why.
import { stopToken } from './link';
import type { Live } from './live';
import { freshness, link, seats, selected, signOutReason } from './model';
import type { Stop } from './stop';
import { TracePanel } from './traces/traces';
import { Alarms } from './view/alarms';
import { BandPanel, BiomarkerPanel } from './view/biomarkers';
import { OutputPanel } from './view/output';
import { OtherSeats, SeatList } from './view/seats';
import { SessionPanel, WhyPanel } from './view/session';
import { Banner, Notices, StatusPill } from './view/status';
import { StopBar } from './view/stop_bar';
import { TargetPanel } from './view/target';

export function App({ live, stop }: { live: Live; stop: Stop }) {
  const signedOut = link.value === 'signed-out';
  return (
    <>
      <header class="top">
        <StopBar stop={stop} />
        <div class="top-words">
          <p class="brand">
            <svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" focusable="false">
              <rect width="32" height="32" rx="8" class="brand-back" />
              <path d="M4 17h5l2.500-7 4 13 3.500-9 2 3h7" class="brand-line" />
            </svg>
            eegloop
          </p>
          <StatusPill />
        </div>
      </header>
      {signedOut ? <SignIn /> : <Page live={live} />}
    </>
  );
}

function SignIn() {
  return (
    <main class="page page-single">
      <Banner />
      <section class="card signin">
        <h1>Not signed in</h1>
        {signOutReason.value === 'used-link' && <p>This link was already used, or is older than five minutes.</p>}
        <p>
          Open the link that <code>eegloop</code> printed when it started. For a new one, run:
        </p>
        <p>
          <code class="command">eegloop link</code>
        </p>
        <p class="plain">
          {stopToken() === null ? 'STOP on this page may not reach the device before you sign in' : 'STOP works here too'}. If it is not confirmed: take the headset off,
          switch the stimulator off.
        </p>
      </section>
    </main>
  );
}

function Page({ live }: { live: Live }) {
  const seat = selected.value;
  return (
    <main class={freshness.value === 'live' ? 'page' : 'page is-stale'}>
      <div class="page-head">
        <h1>{seat?.label ?? 'Connecting to eegloop…'}</h1>
        <Banner />
        <Notices />
      </div>
      <OtherSeats />
      <Alarms />
      {seats.value.length > 1 && <SeatList />}
      <div class="columns" key={seat?.seat ?? ''}>
        <div class="column column-wide">
          <TracePanel />
          <TargetPanel />
          <BandPanel />
        </div>
        <div class="column">
          <OutputPanel />
          <WhyPanel />
          <SessionPanel live={live} />
          <BiomarkerPanel />
        </div>
      </div>
    </main>
  );
}
