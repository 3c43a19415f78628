// The token stands behind the "#" of the link, which browsers do not send. It goes into the form and out of the address.
const field = document.querySelector("[data-token] input");
if (field) {
  const token = decodeURIComponent(location.hash.slice(1));
  if (token) {
    field.value = token;
    history.replaceState(null, "", location.pathname);
  }
  field.closest("label").hidden = field.value !== "";
}
