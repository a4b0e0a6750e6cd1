// A form drawn from a JSON schema, and the JSON that it makes. What a schema has that no field fits is typed as JSON.

import { h } from "./dom.js";

/** Follow `$ref` within the document. */
function resolved(schema, root) {
  if (!schema?.$ref) return schema;
  const path = schema.$ref.replace(/^#\//, "").split("/");
  return resolved(path.reduce((part, name) => part?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], root) ?? {}, root);
}

/** Take `null` out of a choice, as in `anyOf: [{…}, {"type": "null"}]`. */
function plain(schema, root) {
  const whole = resolved(schema, root);
  const choices = (whole.anyOf ?? whole.oneOf)?.map((choice) => resolved(choice, root)).filter((choice) => choice.type !== "null");
  if (choices?.length === 1) {
    const { anyOf, oneOf, ...rest } = whole;
    return { ...choices[0], ...rest };
  }
  return whole;
}

/** Make a field. Returns {element, input, read}: `read` gives the value, or undefined; it raises what is wrong. */
export function fieldFor(name, schema, { root, required }) {
  const spec = plain(schema, root);
  const id = `field-${name}`;
  const options = spec.enum;
  let input;
  let read;
  const about = { id, name, "aria-describedby": `${id}-hint ${id}-error` };
  if (spec.type === "boolean") {
    input = h("select", about, h("option", { value: "" }, required ? "Choose …" : `As it is (${spec.default ?? "not set"})`), h("option", { value: "true" }, "yes"), h("option", { value: "false" }, "no"));
    read = () => (input.value === "" ? undefined : input.value === "true");
  } else if (options) {
    input = h(
      "select",
      about,
      required && options.length > 1 && spec.default === undefined ? h("option", { value: "" }, "Choose …") : null,
      !required && spec.default === undefined ? h("option", { value: "" }, "Not set") : null,
      options.map((option, index) => h("option", { value: String(index), selected: option === spec.default || (required && options.length === 1) }, String(option))),
    );
    read = () => (input.value === "" ? undefined : options[Number(input.value)]);
  } else if (spec.type === "integer" || spec.type === "number") {
    input = h("input", { ...about, type: "text", inputmode: spec.type === "integer" ? "numeric" : "decimal", autocomplete: "off", placeholder: spec.default ?? null });
    read = () => readNumber(input.value.trim(), spec.type === "integer");
  } else if (spec.type === "string") {
    const long = (spec.maxLength ?? 0) > 200;
    input = h(long ? "textarea" : "input", { ...about, type: long ? null : "text", rows: long ? 4 : null, maxlength: spec.maxLength ?? null, autocomplete: "off", placeholder: spec.default ?? null });
    read = () => (input.value === "" ? undefined : input.value);
  } else if (spec.type === "array" && plain(spec.items ?? {}, root).type === "string") {
    input = h("input", { ...about, type: "text", autocomplete: "off", spellcheck: "false" });
    read = () => {
      const parts = input.value.split(/[\s,]+/).filter(Boolean);
      return parts.length ? parts : undefined;
    };
  } else {
    input = h("textarea", { ...about, rows: 4, spellcheck: "false", class: "code" });
    read = () => {
      if (input.value.trim() === "") return undefined;
      try {
        return JSON.parse(input.value);
      } catch {
        throw new Error("This is not JSON.");
      }
    };
  }
  if (required) input.setAttribute("aria-required", "true");
  const element = h(
    "div",
    { class: "field", data: { field: name } },
    h("label", { for: id }, name.replaceAll("_", " "), required ? h("span", { class: "required" }, " (required)") : null),
    input,
    h("p", { class: "hint", id: `${id}-hint` }, hintFor(spec)),
    h("p", { class: "wrong", id: `${id}-error` }),
  );
  return { name, element, input, read, required };
}

function readNumber(text, whole) {
  if (text === "") return undefined;
  const value = Number(text.replace(",", "."));
  if (!Number.isFinite(value)) throw new Error("A number is expected.");
  if (whole && !Number.isSafeInteger(value)) throw new Error("A whole number is expected.");
  return value;
}

function hintFor(spec) {
  const limits = [];
  const low = spec.minimum ?? spec.exclusiveMinimum;
  const high = spec.maximum ?? spec.exclusiveMaximum;
  if (low !== undefined && high !== undefined) limits.push(`${spec.exclusiveMinimum !== undefined ? "Above" : "From"} ${low} to ${high}.`);
  else if (low !== undefined) limits.push(spec.exclusiveMinimum !== undefined ? `Above ${low}.` : `${low} or more.`);
  else if (high !== undefined) limits.push(`Up to ${high}.`);
  if (spec.type === "array") limits.push(`Separated by spaces${spec.maxItems ? `; ${spec.maxItems} at most` : ""}.`);
  if (spec.default !== undefined && spec.default !== null && !Array.isArray(spec.default) && !spec.enum) limits.push(`${spec.default} if left empty.`);
  return [spec.description, ...limits].filter(Boolean).join(" ");
}

/** Put an error beside a field, or take it away. */
export function tellWrong(field, text) {
  field.element.querySelector(".wrong").textContent = text;
  field.input.toggleAttribute("aria-invalid", Boolean(text));
  if (text) field.input.setAttribute("aria-invalid", "true");
}
