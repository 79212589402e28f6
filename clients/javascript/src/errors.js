// Everything this reader can refuse; the names are those of mlguard/errors.py.

export class MlguardError extends Error {
  constructor(message) {
    super(message);
    this.name = this.constructor.name;
  }
}

export class BundleError extends MlguardError {}
export class MalformedBundle extends BundleError {}
export class TamperedBundle extends BundleError {}
export class WrongKey extends MlguardError {}
export class RemoteError extends MlguardError {}
export class ShapeError extends MlguardError {}
export class OutsideValidity extends MlguardError {}
export class NotYetValid extends OutsideValidity {}
export class Expired extends OutsideValidity {}
export class SignatureNotTrusted extends MlguardError {}
export class IdentityError extends MlguardError {}
