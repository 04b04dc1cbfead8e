(function () {
  "use strict";
  const most = 1 << 24;
  const refuse = (what, n) => { if (!(n <= most)) { throw new RangeError(what + " of more than " + most + " is refused by deltaforge_javascript"); } };
  const bound = (proto, name, size) => {
    const original = proto[name];
    Object.defineProperty(proto, name, {
      value: function () { refuse(name, size(this, arguments)); return original.apply(this, arguments); },
      writable: true, configurable: true, enumerable: false,
    });
  };
  bound(String.prototype, "repeat", (s, a) => String(s).length * Math.max(0, Number(a[0]) || 0));
  bound(String.prototype, "padStart", (s, a) => Number(a[0]) || 0);
  bound(String.prototype, "padEnd", (s, a) => Number(a[0]) || 0);
  for (const name of ["fill", "join", "concat", "reverse", "sort", "indexOf", "lastIndexOf", "includes", "splice", "unshift", "shift", "slice", "copyWithin", "toString", "toLocaleString"]) {
    bound(Array.prototype, name, (l) => Number(l.length) || 0);
  }
  bound(Array, "from", (_, a) => (a[0] && Number(a[0].length)) || 0);
  for (const name of ["Array", "ArrayBuffer", "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array", "Float32Array", "Float64Array"]) {
    const original = globalThis[name];
    if (!original) { continue; }
    const check = (a) => { if (a.length === 1 && typeof a[0] === "number") { refuse(name, a[0]); } };
    const bounded = new Proxy(original, {
      construct(target, a, to) { check(a); return Reflect.construct(target, a, to === bounded ? target : to); },
      apply(target, self, a) { check(a); return Reflect.apply(target, self, a); },
    });
    Object.defineProperty(globalThis, name, { value: bounded, writable: true, configurable: true, enumerable: false });
    if (original.prototype) { Object.defineProperty(original.prototype, "constructor", { value: bounded, writable: true, configurable: true, enumerable: false }); }
  }
})();
