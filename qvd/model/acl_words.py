"""What permissions permit, in English and Spanish, made of the parts of their names."""

from __future__ import annotations

from collections.abc import Mapping

DOMAINS: Mapping[str, tuple[str, str]] = {
    "administrator": ("administrators", "administradores"),
    "config": ("configuration", "configuración"),
    "di": ("disk images", "imágenes de disco"),
    "host": ("nodes", "nodos"),
    "job": ("jobs", "tareas"),
    "log": ("the log", "registro"),
    "osf": ("OSFs", "OSF"),
    "property": ("custom properties", "propiedades personalizadas"),
    "role": ("roles", "roles"),
    "session": ("sessions", "sesiones"),
    "tenant": ("tenants", "organizaciones"),
    "token": ("API tokens", "credenciales de la API"),
    "user": ("users", "usuarios"),
    "views": ("views", "vistas"),
    "vm": ("virtual machines", "máquinas virtuales"),
}
VERBS: Mapping[str, tuple[str, str]] = {
    "cancel": ("cancel", "cancelar"),
    "console": ("use the console of", "usar la consola"),
    "create": ("create", "crear"),
    "delete": ("delete", "borrar"),
    "export": ("export", "exportar"),
    "manage": ("manage", "gestionar"),
    "purge": ("empty", "vaciar"),
    "qvd": ("change the configuration of QVD", "cambiar la configuración de QVD"),
    "see": ("see", "ver"),
    "see-details": ("see the details of", "ver los detalles"),
    "see-main": ("list", "listar"),
    "spy": ("watch the screen of", "observar la pantalla"),
    "stats": ("see figures of", "ver cifras"),
    "tls": ("change certificates and keys", "cambiar certificados y claves"),
    "update": ("change", "cambiar"),
    "wat": ("change language and page size", "cambiar idioma y tamaño de página"),
}
DETAILS: Mapping[str, tuple[str, str]] = {
    "acl-list": ("permissions in effect", "permisos efectivos"),
    "acl-list-roles": ("role that each permission comes from", "rol del que procede cada permiso"),
    "address": ("address", "dirección"),
    "administrator": ("administrator", "administrador"),
    "administrators": ("those of administrators", "las de administradores"),
    "application": ("whether it is an application", "si es una aplicación"),
    "assign-acl": ("permissions of its own", "permisos propios"),
    "assign-role": ("assigned roles", "roles asignados"),
    "auto-publish": ("publication when it is ready", "publicación automática"),
    "block": ("block", "bloqueo"),
    "blocked": ("how many are blocked", "cuántos están bloqueados"),
    "blocksize": ("page size", "tamaño de página"),
    "call-arguments": ("arguments", "argumentos"),
    "capacity": ("capacity", "capacidad"),
    "close-to-expire": ("which expire soon", "cuáles caducan pronto"),
    "columns": ("columns", "columnas"),
    "connected-users": ("how many are connected", "cuántos están conectados"),
    "connections": ("connections", "conexiones"),
    "counters": ("counters", "contadores"),
    "created-by": ("who made it", "quién lo creó"),
    "creation-date": ("when it was made", "cuándo se creó"),
    "declare-dead": ("declaration as dead", "declaración de caída"),
    "default": ("default image", "imagen por defecto"),
    "definition": ("definition", "definición"),
    "description": ("description", "descripción"),
    "di": ("disk image", "imagen de disco"),
    "di-list": ("disk images", "imágenes de disco"),
    "di-tag": ("image tag", "etiqueta de imagen"),
    "di-version": ("version of the image", "versión de la imagen"),
    "dis-info": ("number of disk images", "número de imágenes"),
    "disconnect-user": ("connection of its user, by ending it", "conexión de su usuario, terminándola"),
    "drain": ("draining", "vaciado"),
    "expiration": ("expiration", "caducidad"),
    "file": ("file", "fichero"),
    "filters-desktop": ("filters on desktops", "filtros de escritorio"),
    "filters-mobile": ("filters on mobiles", "filtros de móvil"),
    "force-stop": ("state, by force", "estado, por la fuerza"),
    "generation": ("generation", "generación"),
    "head": ("newest image", "imagen más reciente"),
    "host": ("node", "nodo"),
    "id": ("number", "número"),
    "inherited-roles": ("inherited roles", "roles heredados"),
    "interactive": ("keyboard and mouse", "teclado y ratón"),
    "ip": ("address", "dirección IP"),
    "language": ("language", "idioma"),
    "log": ("log", "registro"),
    "mac": ("MAC address", "dirección MAC"),
    "memory": ("memory", "memoria"),
    "message": ("message to its user", "mensaje a su usuario"),
    "mfa": ("one-time codes", "códigos de un solo uso"),
    "name": ("name", "nombre"),
    "next-boot-ip": ("address at the next start", "dirección IP del próximo arranque"),
    "osf": ("OSF", "OSF"),
    "overlay": ("overlay", "capa superpuesta"),
    "owner": ("owner", "propietario"),
    "password": ("password", "contraseña"),
    "port-serial": ("serial port", "puerto serie"),
    "port-ssh": ("SSH port", "puerto SSH"),
    "port-vnc": ("VNC port", "puerto VNC"),
    "properties": ("custom properties", "propiedades personalizadas"),
    "publish": ("publication", "publicación"),
    "quotas": ("quotas", "cuotas"),
    "roles": ("roles", "roles"),
    "running-hosts": ("how many run", "cuántos funcionan"),
    "running-vms": ("how many run", "cuántas funcionan"),
    "runtime": ("what it runs with", "datos de ejecución"),
    "source": ("tool", "herramienta"),
    "staging": ("import from the staging folder", "importación de la carpeta de intercambio"),
    "staging-delete": ("removal from the staging folder", "borrado en la carpeta de intercambio"),
    "state": ("state", "estado"),
    "stop-vms": ("state of its virtual machines", "estado de sus máquinas virtuales"),
    "storage": ("storage", "almacenamiento"),
    "summary": ("how many there are", "cuántos hay"),
    "tags": ("tags", "etiquetas"),
    "top-hosts-most-vms": ("which have most virtual machines", "cuáles tienen más máquinas virtuales"),
    "upload": ("upload", "subida"),
    "url": ("import from an address", "importación desde una dirección"),
    "user": ("user", "usuario"),
    "user-list": ("users", "usuarios"),
    "user-state": ("connection of its user", "conexión de su usuario"),
    "user-storage": ("storage of the user", "almacenamiento del usuario"),
    "users": ("those of users", "las de usuarios"),
    "verify": ("check of its file", "comprobación de su fichero"),
    "version": ("version", "versión"),
    "vm-list": ("virtual machines", "máquinas virtuales"),
    "vms-expiration": ("expiration of its virtual machines", "caducidad de sus máquinas virtuales"),
    "vms-info": ("number of virtual machines", "número de máquinas virtuales"),
}
LISTS = ("vm-list", "di-list", "user-list")


def describe(name: str) -> tuple[str, str]:
    """What a permission permits, in English and in Spanish."""
    domain, verb, detail = name.split(".")
    (english, spanish), (of_english, of_spanish) = VERBS[verb], DOMAINS[domain]
    if domain == "config":
        return sentence(english), sentence(spanish)
    if not detail:
        return sentence(f"{english} {of_english}"), sentence(f"{spanish}: {of_spanish}")
    if detail == "di-list-default-update":
        return "Change OSFs: default image, from the list", "Cambiar OSF: imagen por defecto, desde la lista"
    what = words_of(detail)
    return sentence(f"{english} {of_english}: {what[0]}"), sentence(f"{spanish} {of_spanish}: {what[1]}")


def words_of(detail: str) -> tuple[str, str]:
    """What of an object. An embedded list is followed by what of its objects."""
    if detail in DETAILS:
        return DETAILS[detail]
    start = next(each for each in LISTS if detail.startswith(f"{each}-"))
    (outer, fuera), (inner, dentro) = DETAILS[start], DETAILS[detail.removeprefix(f"{start}-")]
    return f"{inner} of its {outer}", f"{dentro} de sus {fuera}"


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]
