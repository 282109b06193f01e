// Before anything is painted: the theme that the address (?theme=dark) or the last choice says.
(function () {
  document.documentElement.classList.add("script");
  var asked = new URLSearchParams(location.search).get("theme");
  if (asked === "light" || asked === "dark") { document.documentElement.dataset.theme = asked; return; }
  try {
    var theme = localStorage.getItem("ssa-report-theme");
    if (theme) document.documentElement.dataset.theme = theme;
  } catch (error) { /* no storage: the system's theme serves */ }
})();
