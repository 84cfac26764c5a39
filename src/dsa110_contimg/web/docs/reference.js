// The search would need a worker of its own, and the fonts another server.
Redoc.init("/api/openapi.json", {
  disableSearch: true,
  hideDownloadButton: false,
  theme: { typography: { fontFamily: "system-ui, sans-serif", headings: { fontFamily: "system-ui, sans-serif" } } },
}, document.getElementById("reference"));
