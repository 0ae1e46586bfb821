// Loads the Reflect polyfill that the dependency injection of @peculiar/x509 asks for. A module of its own, imported first: the bundler
// runs the CommonJS imports of a module after its ES imports, so that in the compiled binary x509's own import of it comes too late.
import "reflect-metadata";
