"use client";

import { useEffect, useState } from "react";

// What the API answers, once it has; the page says whether it got ready.
export function useLoaded(path) {
  const [state, setState] = useState({});
  useEffect(() => {
    fetch(path).then(async (response) => {
      if (!response.ok) throw new Error(`the server answered ${response.status}`);
      setState({ loaded: await response.json() });
    }).catch((error) => setState({ error }));
  }, [path]);
  useEffect(() => {
    if (state.loaded || state.error) document.body.dataset.ready = state.error ? "error" : "true";
  }, [state]);
  return state;
}

export function Failed({ error }) {
  return <p className="error">Messages could not be loaded: {error.message}.</p>;
}
